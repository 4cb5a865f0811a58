//! Says which HTTP statuses an access log has, most frequent first.

#![forbid(unsafe_code)]

use std::io::{self, BufRead, Write};
use std::process::ExitCode;

use tally::Tally;

fn main() -> ExitCode {
    match run(&mut io::stdin().lock(), &mut io::stdout().lock()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("logstat: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(input: &mut impl BufRead, output: &mut impl Write) -> io::Result<()> {
    let mut tally = Tally::default();
    for line in input.lines() {
        if let Some(status) = status(&line?) {
            tally.add(status);
        }
    }
    for (status, count) in tally.ranking() {
        writeln!(output, "{count:>8} {status}")?;
    }
    Ok(())
}

/// Finds the status in a line of the common log format: the word behind the quoted request.
fn status(line: &str) -> Option<u16> {
    let (_, rest) = line.split_once('"')?;
    let (_, rest) = rest.split_once('"')?;
    rest.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::run;

    #[test]
    fn statuses_are_counted_and_other_lines_are_not() {
        let log = "\
1.2.3.4 - - [x] \"GET / HTTP/1.1\" 200 12
1.2.3.4 - - [x] \"GET /a HTTP/1.1\" 404 0
not a log line
1.2.3.4 - - [x] \"GET /b HTTP/1.1\" 200 7
";
        let mut output = Vec::new();
        run(&mut log.as_bytes(), &mut output).unwrap();
        assert_eq!(String::from_utf8(output).unwrap(), "       2 200\n       1 404\n");
    }
}
