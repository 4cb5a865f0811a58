//! What the three processes of a container say to each other: the caller's, the helper that
//! watches over the container, and process 1 until it executes the program.
//!
//! Invariant: one message is one datagram of a `SOCK_SEQPACKET` pair, so messages of several
//! writers never mix, and the end of the peer is seen as an empty read.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags,
    SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketFlags, SocketType,
};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::error::Failure;
use crate::helper::Stub;

/// Largest message; all are short texts, paths at most.
const MESSAGE_SIZE_MAX: usize = 64 << 10;

/// From the helper to the caller.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum FromHelper {
    /// Something that a person may want to know.
    Note(String),
    /// The controlling end of the terminal comes with this message.
    Terminal,
    /// The program runs.
    Started {
        /// Process 1 as the helper sees it.
        pid: i32,
    },
    /// The program could not be started.
    Failed(Failure),
    /// The program ended, and all that was in the container with it.
    Ended(Ended),
}

/// How a container ended.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Ended {
    pub(crate) outcome: Outcome,
    pub(crate) out_of_memory: bool,
    pub(crate) problems: Vec<String>,
}

/// How the program ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Outcome {
    Code(u8),
    Signal(i32),
}

/// From the caller to the helper.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum ToHelper {
    /// Send a signal to process 1.
    Signal(i32),
}

/// From process 1, before it executes the program, to the helper.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum FromContainer {
    Note(String),
    /// A file or folder was made in the rootfs for a mount to lie on.
    Stub(Stub),
    Failed(Failure),
    /// The next thing is `exec`: the end of the channel without another word is its success.
    Executing,
}

/// From the helper to process 1.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum ToContainer {
    /// Process 1 is in its cgroup and may go on.
    Go,
}

/// One end of a pair.
#[derive(Debug)]
pub(crate) struct Channel(OwnedFd);

impl Channel {
    pub(crate) fn pair() -> io::Result<(Self, Self)> {
        let (left, right) = rustix::net::socketpair(
            AddressFamily::UNIX,
            SocketType::SEQPACKET,
            SocketFlags::CLOEXEC,
            None,
        )?;
        Ok((Self(left), Self(right)))
    }

    pub(crate) fn from_fd(fd: OwnedFd) -> Self {
        Self(fd)
    }

    pub(crate) fn send<M: Serialize>(&self, message: &M) -> io::Result<()> {
        let bytes = serde_json::to_vec(message)?;
        retry(|| rustix::net::send(&self.0, &bytes, SendFlags::NOSIGNAL))?;
        Ok(())
    }

    pub(crate) fn send_with<M: Serialize>(
        &self,
        message: &M,
        fd: BorrowedFd<'_>,
    ) -> io::Result<()> {
        let bytes = serde_json::to_vec(message)?;
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        let fds = [fd];
        if !ancillary.push(SendAncillaryMessage::ScmRights(&fds)) {
            return Err(io::Error::other("no room for a descriptor in the message"));
        }
        let iov = [IoSlice::new(&bytes)];
        retry(|| rustix::net::sendmsg(&self.0, &iov, &mut ancillary, SendFlags::NOSIGNAL))?;
        Ok(())
    }

    /// The next message; `None` when the other end is closed.
    pub(crate) fn receive<M: DeserializeOwned>(&self) -> io::Result<Option<(M, Option<OwnedFd>)>> {
        let mut bytes = vec![0; MESSAGE_SIZE_MAX];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut ancillary = RecvAncillaryBuffer::new(&mut space);
        let received = retry(|| {
            let mut iov = [IoSliceMut::new(&mut bytes)];
            rustix::net::recvmsg(&self.0, &mut iov, &mut ancillary, RecvFlags::CMSG_CLOEXEC)
        });
        let received = match received {
            // The helper was killed with words of ours unread.
            Err(Errno::CONNRESET) => return Ok(None),
            other => other?,
        };
        if received.bytes == 0 {
            return Ok(None);
        }
        if received.flags.contains(ReturnFlags::TRUNC) {
            return Err(io::Error::other("a message between container processes is too long"));
        }
        let mut fd = None;
        for message in ancillary.drain() {
            if let RecvAncillaryMessage::ScmRights(mut fds) = message {
                fd = fds.next();
            }
        }
        let message = bytes.get(..received.bytes).unwrap_or_default();
        Ok(Some((serde_json::from_slice(message)?, fd)))
    }

    /// Lets the other end see the end, whoever else holds a copy of this one.
    pub(crate) fn shut_down(&self) {
        // Fails only when the other end is gone, which is what was wanted.
        let _ = rustix::net::shutdown(&self.0, rustix::net::Shutdown::Write);
    }
}

impl AsFd for Channel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Calls again when a signal interrupted the call.
pub(crate) fn retry<T>(mut call: impl FnMut() -> Result<T, Errno>) -> Result<T, Errno> {
    loop {
        match call() {
            Err(Errno::INTR) => {}
            other => return other,
        }
    }
}
