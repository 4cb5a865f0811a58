mod terminal;

use std::io::Write;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use conex_report::{
    Diagnostic, Event, LogStream, Outcome, Reporter, Severity, Span, Unit, VertexId,
};
use insta::assert_snapshot;
use proptest::prelude::*;

use super::model::Model;
use super::plain::Plain;
use super::{
    FRAME_INTERVAL, Mode, Progress, ProgressOptions, State, View, auto_mode, json, screen,
};
use crate::{Palette, Size};
use terminal::Terminal;

/// A display, its clock, and what it has written so far.
struct Bench {
    now: Duration,
    state: State,
    options: ProgressOptions,
    size: Arc<Mutex<Size>>,
    terminal: Terminal,
    written: String,
}

impl Bench {
    fn tty(columns: u16, rows: u16) -> Self {
        Self::new(View::Tty(screen::Screen::default()), columns, rows)
    }

    fn lines(view: View) -> Self {
        Self::new(view, 80, 24)
    }

    fn new(view: View, columns: u16, rows: u16) -> Self {
        let size = Arc::new(Mutex::new(Size { columns, rows }));
        let now = Duration::from_secs(100);
        let for_options = Arc::clone(&size);
        let mut options = ProgressOptions::new(
            "Building app:latest",
            Palette::PLAIN,
            Arc::new(|| Duration::ZERO),
            Arc::new(move || *for_options.lock().unwrap()),
        );
        options.failure_lines = 4;
        let state = State {
            model: Model::new(now, "CACHED"),
            view,
            outbox: String::new(),
            closed: false,
            broken: false,
        };
        let terminal = Terminal::new(columns, rows);
        Self { now, state, options, size, terminal, written: String::new() }
    }

    /// Lets time pass.
    fn pass(&mut self, millis: u64) -> &mut Self {
        self.now += Duration::from_millis(millis);
        self
    }

    fn event(&mut self, event: Event) -> &mut Self {
        self.state.event(event, self.now);
        self
    }

    fn plan(&mut self, names: &[&str]) -> &mut Self {
        for (vertex, name) in (0..).map(VertexId).zip(names) {
            self.event(Event::Planned { vertex, name: (*name).to_owned() });
        }
        self
    }

    fn start(&mut self, vertex: u32) -> &mut Self {
        self.event(Event::Started { vertex: VertexId(vertex) })
    }

    fn log(&mut self, vertex: u32, text: &str) -> &mut Self {
        let (vertex, data) = (VertexId(vertex), text.as_bytes().to_vec());
        self.event(Event::Log { vertex, stream: LogStream::Stdout, data })
    }

    fn bytes(&mut self, vertex: u32, what: &str, current: u64, total: Option<u64>) -> &mut Self {
        let (vertex, what) = (VertexId(vertex), what.to_owned());
        self.event(Event::Progress { vertex, what, unit: Unit::Bytes, current, total })
    }

    fn end(&mut self, vertex: u32, outcome: Outcome) -> &mut Self {
        self.event(Event::Finished { vertex: VertexId(vertex), outcome })
    }

    fn note(&mut self, text: &str) -> &mut Self {
        self.event(Event::Note { text: text.to_owned() })
    }

    /// Draws, and returns the bytes of the frame.
    fn draw(&mut self) -> String {
        self.options.clock = {
            let now = self.now;
            Arc::new(move || now)
        };
        let frame = self.state.text_now(self.now, &self.options);
        self.show(&frame);
        frame
    }

    fn screen(&mut self) -> String {
        self.draw();
        self.terminal.screen()
    }

    /// Ends, and returns all that was ever seen.
    fn finish(&mut self) -> String {
        self.draw();
        let text = self.state.last_text(&self.options);
        self.show(&text);
        if matches!(self.state.view, View::Tty(_)) {
            return self.terminal.everything();
        }
        std::mem::take(&mut self.written)
    }

    fn show(&mut self, text: &str) {
        self.written.push_str(text);
        if matches!(self.state.view, View::Tty(_)) {
            // What is printed behind the display has line ends that a terminal driver completes.
            self.terminal.write(&text.replace("\r\n", "\n").replace('\n', "\r\n"));
            assert!(self.terminal.is_cursor_shown, "the cursor is back after every write");
            assert!(!self.terminal.is_updating, "no write leaves a frame open");
        }
    }

    fn resize(&mut self, columns: u16, rows: u16) {
        *self.size.lock().unwrap() = Size { columns, rows };
        self.terminal.resize(columns, rows);
    }
}

const STEPS: [&str; 6] = [
    "[base 1/2] FROM debian:12",
    "[base 2/2] RUN apt-get update && apt-get install -y gcc make",
    "[build 1/2] COPY . /src",
    "[build 2/2] RUN make -j2 all",
    "[final 1/2] COPY --from=build /src/app /app",
    "[final 2/2] RUN /app --self-test",
];

fn halfway(bench: &mut Bench) -> &mut Bench {
    bench.plan(&STEPS).start(0).end(0, Outcome::Cached);
    bench.start(1).start(2).pass(1_240).end(2, Outcome::Done).start(3);
    bench.log(1, "Reading package lists...\nBuilding dependency tree...\n");
    bench.log(3, "cc -c main.c\ncc -c util.c\ncc -c par").pass(2_000)
}

#[test]
fn the_display_shows_states_times_and_the_last_output() {
    let mut bench = Bench::tty(72, 24);
    assert_snapshot!(halfway(&mut bench).screen(), @r"
    ⠹ Building app:latest                         2/6 steps, 1 cached  3.2s
     ✔ [base 1/2] FROM debian:12                                     CACHED
     ⠹ [base 2/2] RUN apt-get update && apt-get install -y gcc make    3.2s
       │ Reading package lists...
       │ Building dependency tree...
     ✔ [build 1/2] COPY . /src                                         1.2s
     ⠹ [build 2/2] RUN make -j2 all                                    2.0s
       │ cc -c main.c
       │ cc -c util.c
       │ cc -c par
     · [final 1/2] COPY --from=build /src/app /app
     · [final 2/2] RUN /app --self-test
    ");
}

#[test]
fn what_is_counted_has_a_bar_a_share_and_a_rate() {
    let mut bench = Bench::tty(72, 24);
    bench.plan(&["[base] pull debian:12", "[context] load"]).start(0).start(1);
    for step in 0..=10u64 {
        bench.bytes(0, "sha256:0123 downloading", step * 2_000_000, Some(40_000_000));
        bench.bytes(0, "sha256:4567 unpacking", step * 500_000, Some(5_000_000));
        bench.bytes(1, "transferring", step * 12_345, None).pass(250);
    }
    assert_snapshot!(bench.screen(), @r"
    ⠧ Building app:latest                                   0/2 steps  2.7s
     ⠧ [base] pull debian:12                  25MB / 45MB  55%  9MB/s  2.7s
         sha256:0123 downloading  20MB / 40MB
     ⠧ [context] load                                 123kB  43.2kB/s  2.7s
    ");
    bench.event(Event::Progress {
        vertex: VertexId(1),
        what: "hashing".to_owned(),
        unit: Unit::Files,
        current: 120,
        total: Some(400),
    });
    bench.bytes(0, "sha256:0123 downloading", 40_000_000, Some(40_000_000));
    assert_snapshot!(bench.screen(), @r"
    ⠧ Building app:latest                                   0/2 steps  2.7s
     ⠧ [base] pull debian:12               45MB / 45MB 100%  20.3MB/s  2.7s
     ⠧ [context] load                                 123kB  42.3kB/s  2.7s
         transferring  123kB
         hashing       120 / 400 files
    ");
}

#[test]
fn a_narrow_terminal_keeps_names_and_drops_the_rest() {
    let mut bench = Bench::tty(72, 24);
    halfway(&mut bench).bytes(3, "objects", 1_000_000, Some(3_000_000)).screen();
    bench.resize(40, 24);
    assert_snapshot!(bench.screen(), @r"
    ⠹ Building app:latest              3.2s
     ✔ [base 1/2] FROM debian:12     CACHED
     ⠹ [base 2/2] RUN apt-get update…  3.2s
       │ Reading package lists...
       │ Building dependency tree...
     ✔ [build 1/2] COPY . /src         1.2s
     ⠹ [build 2/2] RUN make -j…   33%  2.0s
       │ cc -c main.c
       │ cc -c util.c
       │ cc -c par
     · [final 1/2] COPY --from=build /src/…
     · [final 2/2] RUN /app --self-test
    ");
    bench.resize(12, 24);
    assert_snapshot!(bench.screen(), @r"
    ⠹ Building…
     ✔ [base 1…
     ⠹ [base 2…
       │ Readi…
       │ Build…
     ✔ [build …
     ⠹ [build …
       │ cc -c…
       │ cc -c…
       │ cc -c…
     · [final …
     · [final …
    ");
}

#[test]
fn a_low_terminal_folds_what_is_over_then_what_waits() {
    let mut bench = Bench::tty(60, 12);
    let names: Vec<String> = (1..=20).map(|number| format!("[stage {number}/20] RUN x")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    bench.plan(&names);
    for vertex in 0..9 {
        bench.start(vertex).pass(100).end(vertex, Outcome::Done);
    }
    bench.start(9).log(9, "one\ntwo\nthree\nfour\nfive\nsix\n").start(10).log(10, "alpha\nbeta\n");
    assert_snapshot!(bench.screen(), @r"
    ⠏ Building app:latest                      9/20 steps  0.9s
     ✔ 9 steps finished
     ⠏ [stage 10/20] RUN x                                 0.0s
       │ three
       │ four
       │ five
       │ six
     ⠏ [stage 11/20] RUN x                                 0.0s
       │ alpha
       │ beta
     … 9 steps waiting
    ");
    bench.resize(60, 6);
    assert_snapshot!(bench.screen(), @r"
    ⠏ Building app:latest                      9/20 steps  0.9s
     ✔ 9 steps finished
     ⠏ [stage 10/20] RUN x                                 0.0s
     ⠏ [stage 11/20] RUN x                                 0.0s
     … 9 steps waiting
    ");
    for vertex in 11..18 {
        bench.start(vertex);
    }
    assert_snapshot!(bench.screen(), @r"
    ⠏ Building app:latest                      9/20 steps  0.9s
     ⠏ [stage 10/20] RUN x                                 0.0s
     ⠏ [stage 11/20] RUN x                                 0.0s
     ⠏ [stage 12/20] RUN x                                 0.0s
     … 6 steps running
    ");
}

#[test]
fn the_end_lists_every_step_once() {
    let mut bench = Bench::tty(72, 8);
    bench.note("using overlay in a user namespace");
    halfway(&mut bench).draw();
    bench.end(1, Outcome::Done).end(3, Outcome::Done).start(4).draw();
    bench.pass(300).end(4, Outcome::Done).start(5).pass(70_000).end(5, Outcome::Done);
    assert_snapshot!(bench.finish(), @r"
    using overlay in a user namespace
    ✔ Building app:latest                        6/6 steps, 1 cached  1m13s
     ✔ [base 1/2] FROM debian:12                                     CACHED
     ✔ [base 2/2] RUN apt-get update && apt-get install -y gcc make    3.2s
     ✔ [build 1/2] COPY . /src                                         1.2s
     ✔ [build 2/2] RUN make -j2 all                                    2.0s
     ✔ [final 1/2] COPY --from=build /src/app /app                     0.3s
     ✔ [final 2/2] RUN /app --self-test                               1m10s
    ");
}

#[test]
fn a_failure_ends_with_the_steps_last_lines_uncut() {
    let mut bench = Bench::tty(50, 10);
    halfway(&mut bench).draw();
    bench.log(
        3,
        "ser.c\none\ntwo\nparser.c:12:5: error: a message that is far wider than the terminal\n",
    );
    bench.end(3, Outcome::Failed("process `make -j2 all` exited with code 2".to_owned()));
    bench.end(1, Outcome::Canceled).end(4, Outcome::Canceled).end(5, Outcome::Canceled);
    assert_snapshot!(bench.finish(), @r"
    ✖ Building app:latest                        3.2s
     ✔ [base 1/2] FROM debian:12               CACHED
     ■ [base 2/2] RUN apt-get update && ap…  canceled
     ✔ [build 1/2] COPY . /src                   1.2s
     ✖ [build 2/2] RUN make -j2 all      failed  2.0s

    ✖ [build 2/2] RUN make -j2 all
      │ … the last 4 lines:
      │ cc -c parser.c
      │ one
      │ two
      │ parser.c:12:5: error: a message that is far wi
    der than the terminal
      process `make -j2 all` exited with code 2
    ");
}

#[test]
fn findings_and_reasons_stand_at_the_end() {
    let mut bench = Bench::tty(60, 24);
    bench.state.model.source = Some(("Dockerfile".to_owned(), "FROM a as b\nRUN c\n".to_owned()));
    bench.plan(&["[1/1] RUN c"]).start(0);
    let span = Span::new((1, 8), (1, 10));
    bench.event(Event::Finding(Diagnostic::warning("FromAsCasing", span, "`as` is not `AS`")));
    let lines = vec!["missed: file `c` changed".to_owned(), "was sha256:01".to_owned()];
    bench.event(Event::Explained { vertex: VertexId(0), lines });
    assert_snapshot!(bench.screen(), @r"
    ⠋ Building app:latest            0/1 steps, 1 warning  0.0s
     ⠋ [1/1] RUN c                                         0.0s
    ");
    bench.end(0, Outcome::Done);
    assert_snapshot!(bench.finish(), @r"
    ✔ Building app:latest            1/1 steps, 1 warning  0.0s
     ✔ [1/1] RUN c                                         0.0s
         missed: file `c` changed
         was sha256:01

    Dockerfile:1:8: warning[FromAsCasing]: `as` is not `AS`
      1 | FROM a as b
        |        ^^

    1 warning
    ");
    let mut bench = Bench::tty(60, 24);
    let finding =
        Diagnostic { severity: Severity::Note, span: None, ..Diagnostic::error(span, "x") };
    bench.event(Event::Finding(finding));
    assert_eq!(bench.finish().trim(), "note: x\n\n1 note");
}

#[test]
fn notes_scroll_away_above_the_display() {
    let mut bench = Bench::tty(60, 8);
    halfway(&mut bench).draw();
    for number in 0..9 {
        bench.note(&format!("note {number}\x1b[2J")).draw();
    }
    let seen = bench.terminal.everything();
    let notes: Vec<&str> = seen.lines().filter(|line| line.starts_with("note")).collect();
    assert_eq!(notes.len(), 9, "{seen}");
    assert_eq!(seen.matches("Building a").count(), 1, "{seen}");
}

#[test]
fn output_cannot_leave_its_lines() {
    let mut bench = Bench::tty(60, 24);
    bench.plan(&["RUN \x1b]0;evil\x07 \x1b[31mx\ny"]).start(0);
    bench.log(0, "\x1b[2J\x1b[1;1Hgone?\r\n10%\r20%\r30%\n\x1b[1A\x1b[Kup\ttab\x08\n");
    bench.log(0, "\u{202e}backwards\u{9b}5A\x00nul\n");
    assert_snapshot!(bench.screen(), @r"
    ⠋ Building app:latest                       0/1 steps  0.0s
     ⠋ RUN  x y                                            0.0s
       │ gone?
       │ 30%
       │ up      ta
       │ �backwards�nul
    ");
}

#[test]
fn what_did_not_change_is_not_sent_again() {
    let mut bench = Bench::tty(72, 24);
    halfway(&mut bench);
    assert!(bench.draw().len() > 200);
    assert_eq!(bench.draw(), "", "nothing happened");
    bench.pass(100);
    let frame = bench.draw();
    assert!(!frame.contains("Reading package lists"), "{frame:?}");
    assert!(frame.contains("3.3s"), "{frame:?}");
}

#[test]
fn a_resized_terminal_is_drawn_anew_without_remains() {
    let mut bench = Bench::tty(72, 24);
    bench.terminal.write("$ conex build .\r\n");
    halfway(&mut bench).draw();
    for (columns, rows) in [(40, 24), (100, 30), (50, 30), (72, 24)] {
        bench.resize(columns, rows);
        bench.draw();
        let seen = bench.terminal.everything();
        assert_eq!(seen.matches("Building a").count(), 1, "{columns}: {seen}");
        assert!(seen.starts_with("$ conex build"), "{columns}: {seen}");
    }
}

#[test]
fn colour_changes_nothing_but_colour() {
    let seen = |palette: Palette| {
        let mut bench = Bench::tty(72, 14);
        bench.options.palette = palette;
        halfway(&mut bench).bytes(3, "objects", 1, Some(3)).draw();
        bench.end(3, Outcome::Failed("no".to_owned()));
        (bench.finish(), bench.written)
    };
    let (plain, plain_bytes) = seen(Palette::PLAIN);
    let (colored, colored_bytes) = seen(Palette::COLOR);
    assert_eq!(plain, colored);
    assert!(!plain_bytes.contains('m') || !plain_bytes.contains("\x1b[3"), "no colour unasked");
    assert!(colored_bytes.contains("\x1b[1;31m"));
}

#[test]
fn without_steps_there_is_no_display() {
    let mut bench = Bench::tty(72, 14);
    assert_eq!(bench.draw(), "");
    assert_eq!(bench.finish(), "");
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let vertex = || (0u32..12).prop_map(VertexId);
    let text = || "[ -~\t\r\n\u{1b}é层]{0,40}";
    let outcome = prop_oneof![
        Just(Outcome::Done),
        Just(Outcome::Cached),
        Just(Outcome::Canceled),
        text().prop_map(Outcome::Failed),
    ];
    let total = proptest::option::of(any::<u64>());
    let event = prop_oneof![
        (vertex(), text()).prop_map(|(vertex, name)| Event::Planned { vertex, name }),
        vertex().prop_map(|vertex| Event::Started { vertex }),
        (vertex(), any::<Vec<u8>>(), text()).prop_map(|(vertex, mut data, text)| {
            data.extend(text.bytes());
            Event::Log { vertex, stream: LogStream::Stderr, data }
        }),
        (vertex(), "[a-c]", any::<u64>(), total, any::<bool>()).prop_map(
            |(vertex, what, current, total, bytes)| {
                let unit = if bytes { Unit::Bytes } else { Unit::Files };
                Event::Progress { vertex, what, unit, current, total }
            }
        ),
        (vertex(), outcome).prop_map(|(vertex, outcome)| Event::Finished { vertex, outcome }),
        text().prop_map(|text| Event::Note { text }),
        (vertex(), text())
            .prop_map(|(vertex, text)| Event::Explained { vertex, lines: vec![text] }),
    ];
    prop::collection::vec(event, 0..40)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn any_events_fit_any_terminal(
        events in events(), columns in 1u16..130, rows in 1u16..40, more in 1u16..130,
    ) {
        let mut bench = Bench::tty(columns, rows);
        bench.terminal.write("$\r\n");
        for event in events {
            if !matches!(event, Event::Note { .. }) {
                bench.event(event).pass(333).draw();
            }
        }
        // The display alone scrolls nothing away but to make room for itself, once.
        let seen = bench.terminal.everything();
        prop_assert!(seen.matches("Building").count() <= 1, "{}", seen);
        prop_assert!(seen.lines().count() <= usize::from(rows) + 1, "{}", seen);
        *bench.size.lock().unwrap() = Size { columns: more, rows };
        bench.terminal = Terminal::new(more, rows);
        bench.finish();
    }

    #[test]
    fn plain_lines_all_bear_a_number_and_none_is_lost(events in events()) {
        let mut bench = Bench::lines(View::Plain(Plain::default()));
        let mut lines = 0;
        for event in events {
            lines += match &event {
                Event::Log { data, .. } => data.iter().filter(|byte| **byte == b'\n').count(),
                Event::Note { .. } => continue,
                _ => 0,
            };
            bench.event(event).pass(777).draw();
        }
        bench.draw();
        let text = bench.finish();
        let (text, _) = text.split_once("------").unwrap_or((&text, ""));
        prop_assert!(text.lines().all(|line| line.is_empty() || line.starts_with('#')), "{}", text);
        prop_assert!(text.lines().count() >= lines);
    }
}

#[test]
fn plain_progress_is_what_users_of_docker_know() {
    let mut bench = Bench::lines(View::Plain(Plain::default()));
    bench.plan(&STEPS[..4]).end(0, Outcome::Cached).start(1).pass(412);
    bench
        .log(1, "Reading pack")
        .log(1, "age lists...\nBuil")
        .pass(11_000)
        .log(1, "ding\n\npartial");
    bench.pass(100).end(1, Outcome::Done).note("using overlay");
    bench.start(2).bytes(2, "transferring context", 10, Some(1_200_000)).pass(1_500);
    bench.bytes(2, "transferring context", 1_200_000, Some(1_200_000)).end(2, Outcome::Done);
    bench.start(3).log(3, "cc\nerror: no\n").pass(140_000).log(3, "bye\n");
    bench.end(3, Outcome::Failed("exit code 2\nkilled".to_owned()));
    assert_snapshot!(bench.finish(), @r"
    #1 [base 1/2] FROM debian:12
    #1 CACHED

    #2 [base 2/2] RUN apt-get update && apt-get install -y gcc make
    #2 0.412 Reading package lists...
    #2 11.41 Building
    #2 11.41
    #2 11.51 partial
    #2 DONE 11.5s
    using overlay

    #3 [build 1/2] COPY . /src
    #3 transferring context 1.2MB / 1.2MB 1.5s done
    #3 DONE 1.5s

    #4 [build 2/2] RUN make -j2 all
    #4 0.000 cc
    #4 0.000 error: no
    #4 140.0 bye
    #4 ERROR: exit code 2: killed
    ------
     > [build 2/2] RUN make -j2 all:
    cc
    error: no
    bye
    ------
    ");
}

#[test]
fn plain_steps_at_once_take_turns() {
    let mut bench = Bench::lines(View::Plain(Plain::default()));
    bench.plan(&["A", "B", "C", "never ran"]).start(0).start(1).start(2);
    bench
        .log(0, "a1\n")
        .log(1, "b1\n")
        .pass(500)
        .log(2, "c1\n")
        .log(0, "a2\n")
        .end(2, Outcome::Done);
    bench.log(1, "b2\n").pass(200).draw();
    bench.end(0, Outcome::Done).log(1, "b3\n").end(3, Outcome::Canceled);
    bench.start(0).pass(100).end(1, Outcome::Canceled).end(1, Outcome::Done);
    assert_snapshot!(bench.finish(), @r"
    #1 A
    #1 0.000 a1
    #1 0.500 a2
    #1 DONE 0.7s

    #2 C
    #2 0.500 c1
    #2 DONE 0.5s

    #3 B
    #3 0.000 b1
    #3 0.500 b2
    #3 0.700 b3
    #3 CANCELED
    ");
}

#[test]
fn a_plain_step_that_waits_too_long_is_heard() {
    let mut bench = Bench::lines(View::Plain(Plain::default()));
    bench.plan(&["A", "B"]).start(0).start(1).log(1, "b1\n").log(0, "a1\n").pass(2_900).draw();
    bench.log(0, "a2\n").pass(200).draw();
    bench.log(0, "a3\n").log(1, "b2\n").end(1, Outcome::Done).end(0, Outcome::Done);
    assert_snapshot!(bench.finish(), @r"
    #1 A
    #1 0.000 a1
    #1 2.900 a2
    #1 ...

    #2 B
    #2 0.000 b1
    #2 3.100 b2
    #2 DONE 3.1s

    #1 A
    #1 3.100 a3
    #1 DONE 3.1s
    ");
}

#[test]
fn json_is_an_event_a_line_and_tears_no_letter() {
    let mut bench = Bench::lines(View::Json(json::Json::default()));
    bench.plan(&["RUN echo 层"]).pass(5).start(0);
    let stream = LogStream::Stdout;
    for data in [&b"\xe5\xb1"[..], b"\x82\n\xf0", b"x"] {
        bench.event(Event::Log { vertex: VertexId(0), stream, data: data.to_vec() });
    }
    bench.bytes(0, "x", 1, None);
    bench.event(Event::Log { vertex: VertexId(0), stream, data: b"end \xc3".to_vec() });
    bench.event(Event::Finding(Diagnostic::error(Span::new((1, 2), (1, 3)), "wrong")));
    bench.note("n").pass(10).end(0, Outcome::Failed("no".to_owned()));
    assert_snapshot!(bench.finish(), @r#"
    {"time_ms":0,"event":"planned","vertex":0,"name":"RUN echo 层"}
    {"time_ms":5,"event":"started","vertex":0}
    {"time_ms":5,"event":"log","vertex":0,"stream":"stdout","data":"层\n"}
    {"time_ms":5,"event":"log","vertex":0,"stream":"stdout","data":"�x"}
    {"time_ms":5,"event":"progress","vertex":0,"what":"x","unit":"bytes","current":1,"total":null}
    {"time_ms":5,"event":"log","vertex":0,"stream":"stdout","data":"end "}
    {"time_ms":5,"event":"finding","severity":"error","code":null,"message":"wrong","span":{"start":{"line":1,"column":2},"end":{"line":1,"column":3}},"hint":null}
    {"time_ms":5,"event":"note","text":"n"}
    {"time_ms":15,"event":"log","vertex":0,"stream":"stdout","data":"�"}
    {"time_ms":15,"event":"finished","vertex":0,"outcome":{"failed":"no"}}
    "#);
}

#[test]
fn quiet_tells_failures_only() {
    let mut bench = Bench::lines(View::Quiet);
    halfway(&mut bench).note("n").end(3, Outcome::Failed("exit code 2".to_owned()));
    assert_snapshot!(bench.finish(), @r"
    ------
     > [build 2/2] RUN make -j2 all:
    cc -c main.c
    cc -c util.c
    cc -c par
    ------
    ");
    let mut bench = Bench::lines(View::Quiet);
    assert_eq!(halfway(&mut bench).finish(), "");
}

#[test]
fn the_mode_follows_the_terminal() {
    for (terminal, term, ci, mode) in [
        (true, Some("xterm-256color"), false, Mode::Tty),
        (true, Some("dumb"), false, Mode::Plain),
        (true, Some(""), false, Mode::Plain),
        (true, None, false, Mode::Plain),
        (true, Some("xterm"), true, Mode::Plain),
        (false, Some("xterm"), false, Mode::Plain),
    ] {
        assert_eq!(auto_mode(terminal, term, ci), mode, "{terminal} {term:?} {ci}");
    }
}

/// A writer that many can look into, and that fails on demand.
#[derive(Clone, Default)]
struct Shared(Arc<Mutex<(Vec<String>, bool)>>);

impl Write for Shared {
    fn write(&mut self, data: &[u8]) -> std::io::Result<usize> {
        let mut shared = self.0.lock().unwrap();
        if shared.1 {
            return Err(std::io::ErrorKind::BrokenPipe.into());
        }
        shared.0.push(String::from_utf8_lossy(data).into_owned());
        Ok(data.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Shared {
    fn text(&self) -> String {
        self.0.lock().unwrap().0.concat()
    }

    fn progress(&self, mode: Mode) -> Progress {
        let began = Instant::now();
        let clock = Arc::new(move || began.elapsed());
        let options =
            ProgressOptions::new("Test", Palette::PLAIN, clock, Arc::new(|| Size::FALLBACK));
        Progress::start(mode, Box::new(self.clone()), options)
    }
}

fn run(progress: &Progress, lines: usize) {
    let vertex = VertexId(0);
    progress.event(Event::Planned { vertex, name: "RUN x".to_owned() });
    progress.event(Event::Started { vertex });
    for line in 0..lines {
        let data = format!("line {line}\n").into_bytes();
        progress.event(Event::Log { vertex, stream: LogStream::Stdout, data });
    }
    progress.event(Event::Finished { vertex, outcome: Outcome::Done });
}

#[test]
fn all_that_was_said_before_the_end_is_written() {
    for mode in [Mode::Plain, Mode::Json] {
        let output = Shared::default();
        let progress = output.progress(mode);
        run(&progress, 50_000);
        assert_eq!(progress.last_lines(VertexId(0), 2), ["line 49998", "line 49999"]);
        progress.finish().unwrap();
        let text = output.text();
        assert_eq!(text.matches("line ").count(), 50_000);
        run(&progress, 1);
        progress.finish().unwrap();
        drop(progress);
        assert_eq!(output.text().len(), text.len(), "nothing follows the end");
    }
}

#[test]
fn dropping_ends_as_well() {
    let output = Shared::default();
    run(&output.progress(Mode::Plain), 1);
    assert!(output.text().contains("#1 DONE"));
}

#[test]
fn a_flood_of_events_is_at_most_twenty_frames_a_second() {
    let output = Shared::default();
    let progress = output.progress(Mode::Tty);
    let began = Instant::now();
    while began.elapsed() < Duration::from_millis(400) {
        run(&progress, 100);
    }
    progress.finish().unwrap();
    let frames = output.0.lock().unwrap().0.len() as u128;
    let most = began.elapsed().as_millis() / FRAME_INTERVAL.as_millis() + 2;
    assert!(frames <= most, "{frames} frames, {most} allowed");
    assert!(frames >= 2, "something was drawn before the end");
}

#[test]
fn a_broken_pipe_ends_the_writing_and_not_the_work() {
    let output = Shared::default();
    output.0.lock().unwrap().1 = true;
    let progress = output.progress(Mode::Plain);
    run(&progress, 200_000);
    let error = progress.finish().unwrap_err();
    assert_eq!(error.to_string(), "cannot write progress");
}

#[test]
fn while_suspended_the_terminal_is_left_alone() {
    let output = Shared::default();
    let progress = output.progress(Mode::Tty);
    let vertex = VertexId(0);
    progress.event(Event::Started { vertex });
    while output.text().is_empty() {
        std::thread::yield_now();
    }
    let (before, after) = progress.suspend(|| {
        let before = output.text();
        progress.event(Event::Planned { vertex, name: "RUN other".to_owned() });
        std::thread::sleep(FRAME_INTERVAL * 3);
        (before, output.text())
    });
    assert_eq!(before, after);
    assert!(before.ends_with("\x1b[J\x1b[?25h\x1b[?2026l"), "{before:?}");
    progress.finish().unwrap();
    assert!(output.text().contains("RUN other"));
}
