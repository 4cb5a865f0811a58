//! What a command prints, in the order in which it does, as well as two pipes can tell.

use std::fs::File;
use std::io::Read as _;

use conex_report::LogStream;
use rustix::event::{PollFd, PollFlags};
use rustix::io::Errno;

use crate::mask::Masker;

/// Bytes taken from a pipe at a time; a pipe holds four times as many.
const BLOCK_SIZE: usize = 16 << 10;

/// One stream of a command.
struct Stream {
    pipe: File,
    name: LogStream,
    masker: Masker,
}

/// Hands on what comes through pipes until all of them end, each piece as soon as it is there: one
/// thread for all, for two would mix up lines that were printed one after the other.
pub(crate) fn forward(
    pipes: [(Option<File>, LogStream); 2],
    masker: &Masker,
    show: impl Fn(LogStream, Vec<u8>),
) {
    let mut streams: Vec<Stream> = pipes
        .into_iter()
        .filter_map(|(pipe, name)| Some(Stream { pipe: pipe?, name, masker: masker.clone() }))
        .collect();
    let mut block = vec![0; BLOCK_SIZE];
    while !streams.is_empty() {
        let readable = readable(&streams);
        let mut is_readable = readable.into_iter();
        streams.retain_mut(|stream| {
            if !is_readable.next().unwrap_or(true) {
                return true;
            }
            let shown = match stream.pipe.read(&mut block) {
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => return true,
                // A pipe that breaks has nothing more to say.
                Ok(0) | Err(_) => None,
                Ok(count) => block.get(..count).map(|data| stream.masker.push(data)),
            };
            let goes_on = shown.is_some();
            let shown = shown.unwrap_or_else(|| stream.masker.finish());
            if !shown.is_empty() {
                show(stream.name, shown);
            }
            goes_on
        });
    }
}

/// Waits until something can be read, and says where.
fn readable(streams: &[Stream]) -> Vec<bool> {
    let mut pipes: Vec<PollFd<'_>> =
        streams.iter().map(|stream| PollFd::new(&stream.pipe, PollFlags::IN)).collect();
    loop {
        match rustix::event::poll(&mut pipes, None) {
            Err(Errno::INTR) => {}
            // Reading tells what is wrong.
            Err(_) => return vec![true; pipes.len()],
            Ok(_) => return pipes.iter().map(|pipe| !pipe.revents().is_empty()).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::io::Write as _;

    use super::*;

    fn pipe() -> (File, File) {
        let (reader, writer) = std::io::pipe().unwrap();
        (
            File::from(std::os::fd::OwnedFd::from(reader)),
            File::from(std::os::fd::OwnedFd::from(writer)),
        )
    }

    #[test]
    fn pieces_come_in_order_and_to_the_last() {
        let (out, mut to_out) = pipe();
        let (err, mut to_err) = pipe();
        let shown = RefCell::new(Vec::new());
        let (said, saying) = std::sync::mpsc::channel();
        std::thread::scope(|scope| {
            scope.spawn(move || {
                for round in 0..20 {
                    let to = if round % 3 == 0 { &mut to_err } else { &mut to_out };
                    // In one piece: `writeln!` would write the end of the line by itself.
                    to.write_all(format!("{round}\n").as_bytes()).unwrap();
                    // The next is printed when this one was shown.
                    saying.recv().unwrap();
                }
                write!(to_err, "the end is sesa").unwrap();
            });
            let pipes = [(Some(out), LogStream::Stdout), (Some(err), LogStream::Stderr)];
            forward(pipes, &Masker::new([b"sesame".to_vec()]), |stream, data| {
                shown.borrow_mut().push((stream, String::from_utf8(data).unwrap()));
                said.send(()).ok();
            });
        });
        let shown = shown.into_inner();
        let text: String = shown.iter().map(|(_, text)| text.as_str()).collect();
        let rounds: String = (0..20).map(|round| format!("{round}\n")).collect();
        assert_eq!(text, rounds + "the end is sesa");
        let errors: String = shown
            .iter()
            .filter(|(stream, _)| *stream == LogStream::Stderr)
            .map(|(_, text)| text.as_str())
            .collect();
        assert_eq!(errors, "0\n3\n6\n9\n12\n15\n18\nthe end is sesa");
    }
}
