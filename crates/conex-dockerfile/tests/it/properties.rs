//! What holds for every input.

use conex_dockerfile::{Expander, Ignore, Mode, Mount, Owner, PortSpec, parse, parse_onbuild};
use proptest::prelude::*;

/// Pieces that Dockerfiles are made of, so that random files get deep into the parser.
const PIECES: [&str; 44] = [
    "FROM ",
    "RUN ",
    "COPY ",
    "ADD ",
    "ENV ",
    "ARG ",
    "LABEL ",
    "ONBUILD ",
    "CMD ",
    "SHELL ",
    "HEALTHCHECK ",
    "EXPOSE ",
    "VOLUME ",
    "AS ",
    "--mount=",
    "--from=",
    "--link",
    "type=cache,",
    "target=/x",
    "<<EOF",
    "<<-'E'",
    "EOF\n",
    "E\n",
    "\n",
    "\r\n",
    "\\\n",
    "`\n",
    "# escape=`\n",
    "# c\n",
    "[\"a\",",
    "\"b\"]",
    "\"",
    "'",
    "\\",
    "$",
    "${",
    "}",
    ":-",
    "#",
    "=",
    " ",
    "\t",
    "a",
    "é",
];

fn dockerfile() -> impl Strategy<Value = String> {
    prop::collection::vec(prop::sample::select(&PIECES[..]), 0..40)
        .prop_map(|pieces| pieces.concat())
}

fn pattern() -> impl Strategy<Value = String> {
    "(!)?(\\*\\*|\\*|\\?|a|b|ab|/|\\[ab\\]|\\.|x){1,5}"
}

fn path() -> impl Strategy<Value = String> {
    "(a|b|ab|x|xa)(/(a|b|ab|x|xa)){0,4}"
}

/// The rules of ignore files, told plainly: each pattern has matched a path if it matched it or a
/// folder above it, and was asked.
fn plainly_ignored(patterns: &[String], path: &str) -> bool {
    let mut matched = vec![false; patterns.len()];
    let mut ignored = false;
    for end in path.match_indices('/').map(|(at, _)| at).chain([path.len()]) {
        ignored = false;
        for (pattern, matched) in patterns.iter().zip(&mut matched) {
            let exception = pattern.starts_with('!');
            let body = pattern.trim_start_matches('!').as_bytes();
            let single = Ignore::from_patterns([body]).expect("the patterns were checked");
            let asked = exception == ignored;
            let fits =
                |single: &Ignore| single.is_ignored_in(&single.root(), &path.as_bytes()[..end]);
            if *matched || asked && fits(&single) {
                *matched = true;
                ignored = !exception;
            }
        }
    }
    ignored
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes_parse(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        parse(&bytes);
        Ignore::parse(&bytes);
    }

    #[test]
    fn any_pieces_parse_and_keep_their_places(text in dockerfile()) {
        let (file, diagnostics) = parse(text.as_bytes());
        let mut before = 0;
        let froms = file.stages.iter();
        let instructions =
            froms.flat_map(|stage| std::iter::once(&stage.from).chain(&stage.instructions));
        for instruction in file.global_args.iter().chain(instructions) {
            prop_assert!(instruction.source.start >= before, "{text:?}");
            prop_assert!(text.get(instruction.source.clone()).is_some(), "{text:?}");
            let source = &text[instruction.source.clone()];
            prop_assert!(!source.is_empty() && source.trim_start() == source, "{text:?}");
            before = instruction.source.end;
            instruction.expandable();
            instruction.script();
        }
        let lines = text.matches('\n').count() + 1;
        for found in diagnostics {
            let span = found.span.expect("every diagnostic has a place");
            prop_assert!(span.start <= span.end, "{text:?}");
            prop_assert!(span.end.line as usize <= lines, "{text:?}");
        }
    }

    #[test]
    fn an_instruction_read_from_its_source_says_the_same(text in dockerfile()) {
        let (file, _) = parse(text.as_bytes());
        for stage in file.stages.iter().filter(|_| file.escape == '\\') {
            for instruction in &stage.instructions {
                let source = &text[instruction.source.clone()];
                let Ok(again) = parse_onbuild(source) else { continue };
                prop_assert_eq!(&again.text, &instruction.text);
                prop_assert_eq!(again.heredocs.len(), instruction.heredocs.len());
            }
        }
    }

    #[test]
    fn text_without_notation_expands_to_itself(text in "[^$'\"\\\\`]*") {
        let lookup = |_: &str| -> Option<String> { panic!("nothing is to be looked up") };
        let expander = Expander::new('\\', &lookup);
        prop_assert_eq!(&expander.expand_word(&text).unwrap().text, &text);
        prop_assert_eq!(&expander.expand_heredoc(&text).unwrap().text, &text);
        let words: Vec<&str> = text.split_whitespace().collect();
        // `<< x` is one word, for heredocs.
        if !text.contains("<<") {
            prop_assert_eq!(expander.expand_words(&text).unwrap().words, words);
        }
    }

    #[test]
    fn any_text_expands_or_is_an_error(text in "[a${}:#%/+?'\"\\\\*<\\- -]{0,30}") {
        let lookup = |name: &str| (name == "a").then(|| "a b*c/d".to_owned());
        for escape in ['\\', '`'] {
            let expander = Expander::new(escape, &lookup);
            let word = expander.expand_word(&text);
            let words = expander.expand_words(&text);
            prop_assert_eq!(word.is_ok(), words.is_ok());
            if let (Ok(word), Ok(words)) = (word, words) {
                prop_assert_eq!(word.used, words.used);
            }
            expander.expand_heredoc(&text).ok();
        }
    }

    #[test]
    fn a_quoted_variable_is_its_value(value in ".*") {
        let lookup = |_: &str| Some(value.clone());
        let expander = Expander::new('\\', &lookup);
        prop_assert_eq!(&expander.expand_word("\"$v\"").unwrap().text, &value);
        prop_assert_eq!(&expander.expand_word("${v}").unwrap().text, &value);
        prop_assert_eq!(&expander.expand_word("${v#}${v+}").unwrap().text, &value);
    }

    #[test]
    fn values_never_panic(text in ".{0,40}") {
        Mount::parse(&text).ok();
        Mode::parse(&text).ok();
        Owner::parse(&text).ok();
        PortSpec::parse(&text).ok();
        conex_dockerfile::parse_duration(&text).ok();
        conex_dockerfile::parse_size(&text).ok();
        conex_dockerfile::parse_signal(&text).ok();
    }

    #[test]
    fn ignoring_is_the_same_told_plainly_and_walked(
        patterns in prop::collection::vec(pattern(), 0..6),
        path in path(),
    ) {
        let good: Vec<String> = patterns
            .into_iter()
            .filter(|pattern| Ignore::from_patterns([pattern.as_bytes()]).is_ok())
            .collect();
        let (ignore, _) = Ignore::parse(good.join("\n").as_bytes());
        let expected = plainly_ignored(&good, &path);
        prop_assert_eq!(ignore.is_ignored(path.as_bytes()), expected, "{:?} {}", good, path);
        // A walk that does not go into a folder would have found only ignored files there.
        let mut state = ignore.root();
        for (end, _) in path.match_indices('/') {
            let folder = &path.as_bytes()[..end];
            state = ignore.enter(&state, folder);
            if !ignore.may_descend(&state, folder) {
                prop_assert!(expected, "{:?} {} at {}", good, path, &path[..end]);
            }
        }
        prop_assert_eq!(ignore.is_ignored_in(&state, path.as_bytes()), expected);
    }
}
