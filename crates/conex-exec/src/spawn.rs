//! The caller's side: start a container, talk to it, wait for its end.
//!
//! Invariant: when [`Running`] is waited for or dropped, nothing of the container runs, and its
//! mounts are gone. When the whole process of the caller is killed, the helper sees its channel
//! close and ends the container; when the helper is killed too, the kernel does (`PDEATHSIG`).
//!
//! Does not pump streams: the caller gets files and reads them.

use std::ffi::CString;
use std::fs::File;
use std::io::{Seek, Write as _};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use conex_sys::mount::{self, Attributes, Depth};
use conex_sys::process::{self, Pid};
use rustix::fs::{MemfdFlags, Mode, OFlags, SealFlags};
use rustix::process::WaitOptions;
use serde::{Deserialize, Serialize};

use crate::error::{Context as _, Error, Result};
use crate::protocol::{Channel, Ended, FromHelper, Outcome, ToHelper, retry};
use crate::spec::{ContainerSpec, TerminalSize};

/// The hidden first argument that makes the binary a helper.
pub(crate) const HELPER_ARGUMENT: &str = "__conex-container";
/// The descriptor on which the helper finds its channel to the caller.
pub(crate) const CONTROL_FD: i32 = 3;
/// The descriptor on which the helper finds its [`Order`].
pub(crate) const ORDER_FD: i32 = 4;

/// What the helper shall do.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Order {
    pub(crate) spec: ContainerSpec,
    pub(crate) runtime: Runtime,
    pub(crate) overlay_calls: OverlayCalls,
}

/// Who sets the container up.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Runtime {
    /// This crate.
    #[default]
    Own,
    /// An OCI runtime: the path of runc, crun, youki or the like.
    Oci(PathBuf),
}

/// How to run, beside what.
#[derive(Debug, Clone, Default)]
pub struct ExecOptions {
    /// Who sets the container up.
    pub runtime: Runtime,
    /// How overlays are mounted.
    pub overlay_calls: OverlayCalls,
    /// The program whose `main` calls [`helper_main_if_asked`](crate::helper_main_if_asked) first.
    pub helper: HelperProgram,
}

/// Which calls of the kernel mount overlays.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum OverlayCalls {
    /// The newest that the kernel has.
    #[default]
    Newest,
    /// `mount(2)`, as on kernels before 6.7: for tests on newer ones.
    Classic,
}

/// The program that becomes the helper.
#[derive(Debug, Clone, Default)]
pub enum HelperProgram {
    /// The one that runs now.
    #[default]
    Current,
    /// Another, for programs whose `main` is not theirs, such as tests.
    Path(PathBuf),
}

/// Where a standard stream of the program goes.
#[derive(Debug, Default)]
pub enum Stream {
    /// Nowhere.
    #[default]
    Null,
    /// Where ours goes.
    Inherit,
    /// Into a pipe whose other end is in [`Running`].
    Pipe,
    /// Into this file.
    Fd(OwnedFd),
}

/// The standard streams; without effect for a program that has a terminal.
#[derive(Debug, Default)]
pub struct Streams {
    /// Standard input.
    pub stdin: Stream,
    /// Standard output.
    pub stdout: Stream,
    /// Standard error.
    pub stderr: Stream,
}

/// How the program ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExitStatus {
    /// By itself.
    Code(u8),
    /// By a signal.
    Signal(i32),
}

/// How a container ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exit {
    /// How the program ended.
    pub status: ExitStatus,
    /// Whether the kernel killed something in the container because its memory limit was reached.
    pub out_of_memory: bool,
    /// What could not be tidied up afterwards.
    pub problems: Vec<String>,
}

impl Exit {
    /// True if the program ended with 0.
    pub fn success(&self) -> bool {
        self.status == ExitStatus::Code(0)
    }

    /// The code as a shell and `docker run` give it: 128 and the signal's number for a signal.
    pub fn code(&self) -> u8 {
        match self.status {
            ExitStatus::Code(code) => code,
            ExitStatus::Signal(signal) => {
                u8::try_from(signal.saturating_add(128)).unwrap_or(u8::MAX)
            }
        }
    }
}

/// A container whose program runs.
#[derive(Debug)]
pub struct Running {
    /// Our end of standard input, if it is a pipe.
    pub stdin: Option<File>,
    /// Our end of standard output, if it is a pipe.
    pub stdout: Option<File>,
    /// Our end of standard error, if it is a pipe.
    pub stderr: Option<File>,
    /// The controlling end of the terminal, if there is one. Reading it fails with `EIO` when the
    /// last program in the container has closed the terminal: that is its end of file.
    pub terminal: Option<File>,
    control: Arc<Channel>,
    helper: Option<Pid>,
    pid: i32,
    notes: Vec<String>,
}

/// Sends signals to a container while another thread waits for it.
#[derive(Debug, Clone)]
pub struct Signaller(Arc<Channel>);

impl Signaller {
    /// Sends a signal to process 1. A container that has ended takes it without effect.
    pub fn signal(&self, signal: i32) {
        // An error means that the helper is gone, and with it the container.
        let _ = self.0.send(&ToHelper::Signal(signal));
    }

    /// Kills the container.
    pub fn kill(&self) {
        self.signal(rustix::process::Signal::KILL.as_raw());
    }
}

/// Starts a container; returns when its program has been executed, or why it was not.
pub fn spawn(spec: &ContainerSpec, streams: Streams, options: &ExecOptions) -> Result<Running> {
    spec.check()?;
    let order = write_order(spec, options)?;
    let (control, theirs) = Channel::pair().doing(|| "cannot make a channel".to_owned())?;
    let (stdin, child_stdin) = connect(streams.stdin, 0)?;
    let (stdout, child_stdout) = connect(streams.stdout, 1)?;
    let (stderr, child_stderr) = connect(streams.stderr, 2)?;
    let fds = [
        (child_stdin.as_fd(), 0),
        (child_stdout.as_fd(), 1),
        (child_stderr.as_fd(), 2),
        (theirs.as_fd(), CONTROL_FD),
        (order.as_fd(), ORDER_FD),
    ];
    let helper = start_helper(&options.helper, &fds)?;
    drop(theirs);
    let mut running = Running {
        stdin,
        stdout,
        stderr,
        terminal: None,
        control: Arc::new(control),
        helper: Some(helper),
        pid: 0,
        notes: Vec::new(),
    };
    running.await_start()?;
    Ok(running)
}

impl Running {
    /// Process 1 as the processes outside see it.
    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// What a person may want to know about how the container was set up.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// A handle that sends signals, for other threads.
    pub fn signaller(&self) -> Signaller {
        Signaller(Arc::clone(&self.control))
    }

    /// Kills the container; [`Running::wait`] then returns soon.
    pub fn kill(&self) {
        self.signaller().kill();
    }

    /// Tells the container's terminal its size.
    pub fn resize(&self, size: TerminalSize) -> Result<()> {
        let Some(terminal) = &self.terminal else {
            return Err(Error::invalid("the container has no terminal"));
        };
        let size = conex_sys::pty::Size { rows: size.rows, columns: size.columns };
        conex_sys::pty::resize(terminal, size).doing(|| "cannot resize the terminal".to_owned())
    }

    /// Waits until the program has ended and nothing of the container is left.
    ///
    /// A full pipe that nobody reads keeps the program from ending: read them meanwhile.
    pub fn wait(&mut self) -> Result<Exit> {
        let ended = loop {
            match self.next_message()? {
                Some(FromHelper::Ended(ended)) => break Some(ended),
                Some(FromHelper::Failed(failure)) => {
                    self.reap();
                    return Err(failure.into());
                }
                Some(_) => {}
                None => break None,
            }
        };
        self.reap();
        ended
            .map(Exit::from)
            .ok_or_else(|| Error::lost("the process that watched over the container was killed"))
    }

    fn await_start(&mut self) -> Result<()> {
        loop {
            match self.next_message()? {
                Some(FromHelper::Started { pid }) => {
                    self.pid = pid;
                    return Ok(());
                }
                Some(FromHelper::Failed(failure)) => {
                    self.reap();
                    return Err(failure.into());
                }
                Some(FromHelper::Ended(_)) | None => {
                    self.reap();
                    return Err(Error::lost("the container's set-up ended without a word")
                        .with_hint("the machine may have run out of memory: see `dmesg`"));
                }
                Some(FromHelper::Note(_) | FromHelper::Terminal) => {}
            }
        }
    }

    fn next_message(&mut self) -> Result<Option<FromHelper>> {
        let received =
            self.control.receive().doing(|| "cannot hear from the container".to_owned())?;
        let Some((message, fd)) = received else { return Ok(None) };
        match &message {
            FromHelper::Note(text) => self.notes.push(text.clone()),
            FromHelper::Terminal => self.terminal = fd.map(File::from),
            _ => {}
        }
        Ok(Some(message))
    }

    fn reap(&mut self) {
        if let Some(helper) = self.helper.take() {
            // Fails only when someone else reaped it (a handler of SIGCHLD that ignores): gone too.
            let _ = retry(|| rustix::process::waitpid(Some(helper), WaitOptions::empty()));
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if self.helper.is_some() {
            // The helper takes the end of our words as the order to kill.
            self.control.shut_down();
            self.reap();
        }
    }
}

impl From<Ended> for Exit {
    fn from(ended: Ended) -> Self {
        let status = match ended.outcome {
            Outcome::Code(code) => ExitStatus::Code(code),
            Outcome::Signal(signal) => ExitStatus::Signal(signal),
        };
        Self { status, out_of_memory: ended.out_of_memory, problems: ended.problems }
    }
}

/// Writes the order into memory that nobody can change any more.
fn write_order(spec: &ContainerSpec, options: &ExecOptions) -> Result<File> {
    let act = || "cannot describe the container to its helper".to_owned();
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let mut file = File::from(rustix::fs::memfd_create("conex-container", flags).doing(act)?);
    let (runtime, overlay_calls) = (options.runtime.clone(), options.overlay_calls);
    let order = Order { spec: spec.clone(), runtime, overlay_calls };
    let bytes = serde_json::to_vec(&order).map_err(std::io::Error::from).doing(act)?;
    if bytes.len() as u64 > crate::spec::SPEC_SIZE_MAX {
        return Err(Error::invalid("the files given to the container are too large"));
    }
    file.write_all(&bytes).doing(act)?;
    file.rewind().doing(act)?;
    let seals = SealFlags::WRITE | SealFlags::GROW | SealFlags::SHRINK | SealFlags::SEAL;
    rustix::fs::fcntl_add_seals(&file, seals).doing(act)?;
    Ok(file)
}

/// Returns our end, if there is one, and the end of the program.
fn connect(stream: Stream, number: i32) -> Result<(Option<File>, OwnedFd)> {
    let act = || format!("cannot connect standard stream {number}");
    match stream {
        Stream::Fd(fd) => Ok((None, fd)),
        Stream::Null => {
            let flags = OFlags::RDWR | OFlags::CLOEXEC;
            let null = rustix::fs::open("/dev/null", flags, Mode::empty()).doing(act)?;
            Ok((None, null))
        }
        Stream::Inherit => {
            let own: Box<dyn AsFd> = match number {
                0 => Box::new(std::io::stdin()),
                1 => Box::new(std::io::stdout()),
                _ => Box::new(std::io::stderr()),
            };
            let copy = own.as_fd().try_clone_to_owned().doing(act)?;
            Ok((None, copy))
        }
        Stream::Pipe => {
            let (reader, writer) =
                rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).doing(act)?;
            if number == 0 {
                Ok((Some(File::from(writer)), reader))
            } else {
                Ok((Some(File::from(reader)), writer))
            }
        }
    }
}

fn start_helper(program: &HelperProgram, fds: &[(BorrowedFd<'_>, i32)]) -> Result<Pid> {
    let act = || "cannot start the helper process of the container".to_owned();
    let args = [c"conex".to_owned(), CString::from(c"__conex-container")];
    let path = match program {
        HelperProgram::Current => match protected_binary() {
            Some(binary) => format!("/proc/self/fd/{}", binary.as_raw_fd()),
            None => "/proc/self/exe".to_owned(),
        },
        HelperProgram::Path(path) => path.display().to_string(),
    };
    let path = CString::new(path).map_err(std::io::Error::from).doing(act)?;
    process::spawn(&path, &args, &[], fds).doing(act)
}

/// The running binary through a read-only mount of its own.
///
/// A container that runs as real root can reach the file that its process 1 was started from
/// (`#!/proc/self/exe`, CVE-2019-5736), and would write into it after we have ended. Through this
/// mount it cannot. Without the right to mount there is no other user's file to protect.
fn protected_binary() -> Option<&'static OwnedFd> {
    static BINARY: OnceLock<Option<OwnedFd>> = OnceLock::new();
    BINARY.get_or_init(|| clone_binary().ok()).as_ref()
}

fn clone_binary() -> std::io::Result<OwnedFd> {
    let path = std::fs::read_link("/proc/self/exe")?;
    let ours = rustix::fs::stat("/proc/self/exe")?;
    let binary = mount::bind(rustix::fs::CWD, &path, Depth::This)?;
    let found = rustix::fs::fstat(&binary)?;
    if (found.st_dev, found.st_ino) != (ours.st_dev, ours.st_ino) {
        return Err(std::io::Error::other("the binary was replaced while it ran"));
    }
    mount::change(&binary, Attributes::READ_ONLY, Attributes::NONE, Depth::This)?;
    Ok(binary)
}
