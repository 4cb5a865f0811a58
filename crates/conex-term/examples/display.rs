//! Plays a made-up build, for judging the display with one's own eyes on one's own terminal:
//! `cargo run -p conex-term --example display [tty|plain|json|quiet]`.

use std::sync::Arc;
use std::time::{Duration, Instant};

use conex_report::{Event, LogStream, Outcome, Reporter, Unit, VertexId};
use conex_term::{ColorChoice, Mode, Progress, ProgressOptions, Size};

const STEPS: [&str; 8] = [
    "[base 1/3] FROM debian:12",
    "[base 2/3] RUN apt-get update && apt-get install -y --no-install-recommends gcc make",
    "[base 3/3] WORKDIR /src",
    "[context] load . (1,204 files)",
    "[build 1/2] COPY . .",
    "[build 2/2] RUN make -j2",
    "[final 1/2] COPY --from=build /src/app /app",
    "[final 2/2] RUN /app --self-test",
];

fn main() -> Result<(), conex_term::Error> {
    let began = Instant::now();
    let is_terminal = conex_term::is_terminal(std::io::stderr());
    let term = std::env::var("TERM").ok();
    let mode = match std::env::args().nth(1).as_deref() {
        Some("tty") => Mode::Tty,
        Some("plain") => Mode::Plain,
        Some("json") => Mode::Json,
        Some("quiet") => Mode::Quiet,
        _ => conex_term::auto_mode(is_terminal, term.as_deref(), false),
    };
    let palette = ColorChoice::Auto.palette(is_terminal, None, term.as_deref());
    let size = || conex_term::terminal_size(std::io::stderr()).unwrap_or(Size::FALLBACK);
    let options = ProgressOptions::new(
        "Building app:latest",
        palette,
        Arc::new(move || began.elapsed()),
        Arc::new(size),
    );
    let progress = Progress::start(mode, Box::new(std::io::stderr()), options);
    build(&progress);
    progress.finish()
}

fn build(progress: &Progress) {
    for (number, name) in (0..).zip(STEPS) {
        let name = name.to_owned();
        progress.event(Event::Planned { vertex: VertexId(number), name });
    }
    let note = "using overlay in a user namespace, because /proc/sys allows it";
    progress.event(Event::Note { text: note.to_owned() });
    std::thread::scope(|scope| {
        scope.spawn(|| pull(progress));
        scope.spawn(|| context(progress));
    });
    end(progress, 2, Outcome::Cached);
    std::thread::scope(|scope| {
        scope.spawn(|| output(progress, 1, "Get: package", 30, 80));
        scope.spawn(|| output(progress, 5, "cc -O2 -c module", 60, 60));
    });
    end(progress, 1, Outcome::Done);
    log(progress, 5, "ld: cannot find -lexample\nmake: *** [Makefile:12: app] Error 1\n");
    let why = "process `/bin/sh -c make -j2` exited with code 2";
    end(progress, 5, Outcome::Failed(why.to_owned()));
    end(progress, 6, Outcome::Canceled);
    end(progress, 7, Outcome::Canceled);
}

fn pull(progress: &Progress) {
    start(progress, 0);
    for step in 0..=40u64 {
        for (layer, size) in [("sha256:2f1c", 30_000_000), ("sha256:9ab0", 12_000_000)] {
            progress.event(Event::Progress {
                vertex: VertexId(0),
                what: format!("{layer} downloading"),
                unit: Unit::Bytes,
                current: size * step / 40,
                total: Some(size),
            });
        }
        pause(50);
    }
    end(progress, 0, Outcome::Done);
}

fn context(progress: &Progress) {
    start(progress, 3);
    for current in (0..=1204).step_by(43) {
        progress.event(Event::Progress {
            vertex: VertexId(3),
            what: "hashing".to_owned(),
            unit: Unit::Files,
            current,
            total: Some(1204),
        });
        pause(30);
    }
    end(progress, 3, Outcome::Done);
    start(progress, 4);
    pause(200);
    end(progress, 4, Outcome::Done);
}

fn output(progress: &Progress, vertex: u32, what: &str, lines: u32, millis: u64) {
    start(progress, vertex);
    for line in 0..lines {
        log(progress, vertex, &format!("\x1b[32m{what}\x1b[0m {line}\n"));
        pause(millis);
    }
}

fn start(progress: &Progress, vertex: u32) {
    progress.event(Event::Started { vertex: VertexId(vertex) });
}

fn log(progress: &Progress, vertex: u32, text: &str) {
    let (vertex, data) = (VertexId(vertex), text.as_bytes().to_vec());
    progress.event(Event::Log { vertex, stream: LogStream::Stdout, data });
}

fn end(progress: &Progress, vertex: u32, outcome: Outcome) {
    progress.event(Event::Finished { vertex: VertexId(vertex), outcome });
}

fn pause(millis: u64) {
    std::thread::sleep(Duration::from_millis(millis));
}
