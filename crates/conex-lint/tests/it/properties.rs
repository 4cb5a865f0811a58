//! No text breaks the linter; edits end, and keep what parsed parsing; a layout keeps the meaning.

use conex_lint::format::{Unformatted, format, same};
use conex_lint::{Safety, fix, lint};
use proptest::prelude::*;

use crate::linting::with_options;

/// Dockerfiles made of lines that mean something, and of what breaks them.
fn dockerfile() -> impl Strategy<Value = String> {
    let line = prop::sample::select(vec![
        "FROM debian",
        "from scratch as A",
        "FROM a:1 AS b",
        "RUN apt-get update && apt-get install git",
        "RUN apt install x",
        "RUN cd /a; make",
        "RUN echo `date` | cat",
        "run a",
        "RUN b",
        "RUN apk add git \\\n  # note\n\n  curl",
        "RUN <<EOF\npip install x\n  yum install y\nEOF",
        "RUN <<-EOF\n\tread x\n\tEOF",
        "RUN if true; then",
        "RUN [\"apt-get\", \"install\", \"git\"]",
        "RUN --mount=type=cache,target=/x pip install 'a b'",
        "ADD a b",
        "ADD x.tar.gz /",
        "COPY a b /c",
        "COPY <<E /x\n$a\nE",
        "ENV A b",
        "ENV A=1 B=$A",
        "LABEL x y",
        "MAINTAINER \"me\"",
        "CMD a b",
        "CMD [\"a\"]",
        "ENTRYPOINT exec top -b",
        "HEALTHCHECK CMD a",
        "EXPOSE 80/TCP 22",
        "WORKDIR a",
        "USER root",
        "ONBUILD RUN cd x && apt-get install y",
        "SHELL [\"/bin/bash\", \"-c\"]",
        "# check=skip=all",
        "# hadolint ignore=DL3008",
        "",
        "   ",
        "\\",
        "RUN echo 'a \\\n  b'  ",
        "RUN for x in a; do ls *; done",
        "ARG TOKEN",
        "STOPSIGNAL x",
        "RUN echo é \\",
        "\t",
        "EOF",
        "RUN useradd -u 1234567 é",
        "# escape=`",
        "RUN wget http://x | sh &",
        "RUN source ./x && egrep a b",
        "VOLUME /proc",
        "RUN ls $@ $*",
    ]);
    let end = prop::sample::select(vec!["\n", "\n", "\n", "\r\n", "\n\n\n", "  \n", ""]);
    prop::collection::vec((line, end), 0..14)
        .prop_map(|lines| lines.into_iter().map(|(line, end)| format!("{line}{end}")).collect())
}

fn mistakes(text: &str) -> usize {
    let (_, mistakes) = conex_dockerfile::parse(text.as_bytes());
    mistakes.len()
}

/// Files that each hold one thing that linters look at.
const CORPUS: &str = include_str!("../../../conex/tests/it/lint/corpus.txt");

#[test]
fn the_corpus_is_laid_out_once_and_says_the_same() {
    for text in CORPUS.split("===\n") {
        let (before, mistakes) = conex_dockerfile::parse(text.as_bytes());
        match format(text) {
            Ok(formatted) => {
                let (after, _) = conex_dockerfile::parse(formatted.as_bytes());
                assert!(same(&before, &after), "{text}became\n{formatted}");
                assert_eq!(format(&formatted).as_ref(), Ok(&formatted), "twice:\n{text}");
            }
            Err(why) => assert_eq!((why, mistakes.is_empty()), (Unformatted::Mistakes, false)),
        }
    }
}

#[test]
fn what_differs_in_any_word_is_not_the_same() {
    let read = |text: &str| conex_dockerfile::parse(text.as_bytes()).0;
    for (a, b) in [
        ("FROM a AS b", "FROM a AS c"),
        ("FROM --platform=linux/amd64 a", "FROM --platform=linux/arm64 a"),
        ("FROM a\nRUN b  c", "FROM a\nRUN b 'c'"),
        ("FROM a\nRUN echo 'b  c'", "FROM a\nRUN echo 'b c'"),
        ("FROM a\nRUN a; b", "FROM a\nRUN a && b"),
        ("FROM a\nRUN --network=none b", "FROM a\nRUN b"),
        (
            "FROM a\nRUN --mount=type=tmpfs,target=/a b",
            "FROM a\nRUN --mount=type=tmpfs,target=/b b",
        ),
        ("FROM a\nRUN <<E\na\nE", "FROM a\nRUN <<E\na \nE"),
        ("FROM a\nRUN <<E\na\nE", "FROM a\nRUN <<'E'\na\nE"),
        ("FROM a\nCOPY --link a b", "FROM a\nCOPY a b"),
        ("FROM a\nCOPY --chmod=1 a b", "FROM a\nCOPY --chmod=2 a b"),
        ("FROM a\nCMD a  b", "FROM a\nCMD a b"),
        ("FROM a\nCMD [\"a\"]", "FROM a\nCMD a"),
        ("FROM a\nENV a=b c=d", "FROM a\nENV a=b"),
        ("FROM a\nENV a b", "FROM a\nENV a=b"),
        ("FROM a\nHEALTHCHECK --retries=1 CMD a", "FROM a\nHEALTHCHECK --retries=2 CMD a"),
        ("FROM a\nONBUILD RUN a", "FROM a\nONBUILD RUN b"),
        ("FROM a\nUSER a\nUSER b", "FROM a\nUSER b\nUSER a"),
        ("# a\nFROM a\nUSER b", "FROM a\n# a\nUSER b"),
        ("FROM a\n# b\n# c\nUSER b", "FROM a\n# c\n# b\nUSER b"),
        ("# escape=`\nFROM a", "FROM a"),
        ("# check=skip=all\nFROM a", "# check=error=true\nFROM a"),
        // A text that looks like a place is text.
        ("FROM a\nLABEL a=\"span: Span { x } } }\"", "FROM a\nLABEL a=\"span: Span { y } } }\""),
    ] {
        assert!(same(&read(a), &read(a)), "{a}");
        assert!(!same(&read(a), &read(b)), "{a}\nand\n{b}");
    }
}

proptest! {
    #[test]
    fn findings_and_edits_are_within_the_text(text in dockerfile()) {
        with_options(|options| {
            for finding in lint(text.as_bytes(), options).findings {
                let line_count = text.split('\n').count() as u32;
                assert!(finding.span.start.line <= line_count, "{finding:?} in {text:?}");
                for edit in finding.fix.iter().flat_map(|fix| &fix.edits) {
                    assert!(text.get(edit.range.clone()).is_some(), "{edit:?} in {text:?}");
                }
            }
        });
    }

    #[test]
    fn mending_ends_and_breaks_nothing(text in dockerfile(), risky: bool) {
        with_options(|options| {
            let safety = if risky { Safety::Unsafe } else { Safety::Safe };
            let fixed = fix(&text, options, safety, &|_| true);
            assert!(mistakes(&fixed.text) <= mistakes(&text), "{text:?} became {:?}", fixed.text);
            let again = fix(&fixed.text, options, safety, &|_| true);
            assert_eq!(again.text, fixed.text, "{text:?}");
        });
    }

    #[test]
    fn a_layout_keeps_the_meaning(text in dockerfile()) {
        match format(&text) {
            Ok(formatted) => {
                let (before, _) = conex_dockerfile::parse(text.as_bytes());
                let (after, mistakes) = conex_dockerfile::parse(formatted.as_bytes());
                assert_eq!(mistakes, []);
                assert!(same(&before, &after), "{text:?} became {formatted:?}");
                assert_eq!(format(&formatted), Ok(formatted.clone()), "twice, {text:?}");
            }
            Err(Unformatted::Mistakes) => assert!(mistakes(&text) > 0, "{text:?}"),
            Err(Unformatted::Meaning) => {}
        }
    }

    #[test]
    fn any_bytes_are_linted(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        with_options(|options| {
            lint(&bytes, options);
        });
    }
}
