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
