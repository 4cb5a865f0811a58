//! Each instruction's fields.

use conex_dockerfile::{
    Command, Duration, Expandable, Healthcheck, Instruction, Kind, Network, Script, Security, Word,
    parse,
};

fn only(text: &str) -> Instruction {
    let (mut file, diagnostics) = parse(format!("FROM scratch\n{text}").as_bytes());
    assert_eq!(diagnostics, [], "{text}");
    file.stages[0].instructions.remove(0)
}

fn texts(words: &[Word]) -> Vec<&str> {
    words.iter().map(|word| word.raw.as_str()).collect()
}

/// `shell:TEXT` or `exec:A|B`.
fn command(command: &Command) -> String {
    match command {
        Command::Shell(word) => format!("shell:{}", word.raw),
        Command::Exec(words) => format!("exec:{}", texts(words).join("|")),
    }
}

#[test]
fn commands_have_two_forms() {
    for (text, expected) in [
        ("CMD a b", "shell:a b"),
        ("CMD [\"a\", \"b c\"]", "exec:a|b c"),
        ("CMD []", "exec:"),
        ("ENTRYPOINT [\"a\"]", "exec:a"),
        ("CMD ['a', 'b']", "shell:['a', 'b']"),
        ("CMD [\"a\"", "shell:[\"a\""),
        ("CMD [ -f x ] && y", "shell:[ -f x ] && y"),
        ("CMD \"a b\"", "shell:\"a b\""),
    ] {
        let (Kind::Cmd(found) | Kind::Entrypoint(found)) = &only(text).kind else {
            panic!("{text}");
        };
        assert_eq!(command(found), expected, "{text}");
    }
}

#[test]
fn from_takes_a_platform_and_a_name() {
    for (text, base, platform, name) in [
        ("FROM a", "a", None, None),
        (
            "FROM --platform=linux/arm64 a:1@sha256:0 AS B.c-d_1",
            "a:1@sha256:0",
            Some("linux/arm64"),
            Some("b.c-d_1"),
        ),
        ("from $X aS y", "$X", None, Some("y")),
        ("FROM --platform=\"$P\" ${X:-y}", "${X:-y}", Some("$P"), None),
    ] {
        let (file, diagnostics) = parse(text.as_bytes());
        assert_eq!(diagnostics, [], "{text}");
        let stage = &file.stages[0];
        assert_eq!(stage.base.raw, base, "{text}");
        assert_eq!(stage.platform.as_ref().map(|word| word.raw.as_str()), platform, "{text}");
        assert_eq!(stage.name.as_deref(), name, "{text}");
    }
}

#[test]
fn pairs_and_arguments() {
    for (text, expected) in [
        ("ENV a=b", "a=b"),
        ("ENV a=b c=\"d e\" f='g h' i=j\\ k", "a=b|c=\"d e\"|f='g h'|i=j\\ k"),
        ("ENV a b=c  d ", "a:b=c  d"),
        ("ENV a=", "a="),
        ("ENV a=b=c", "a=b=c"),
        ("LABEL \"a b\"=c", "\"a b\"=c"),
        ("LABEL a.b=\"x\\\n y\"", "a.b=\"x y\""),
        ("ENV a=b \\\n    c=d", "a=b|c=d"),
    ] {
        let (Kind::Env(found) | Kind::Label(found)) = &only(text).kind else { panic!("{text}") };
        let pairs: Vec<String> = found
            .pairs
            .iter()
            .map(|pair| {
                let sign = if pair.legacy { ':' } else { '=' };
                format!("{}{sign}{}", pair.key.raw, pair.value.raw)
            })
            .collect();
        assert_eq!(pairs.join("|"), expected, "{text}");
    }
    let Kind::Arg(arg) = only("ARG a b= c=\"d e\"").kind else { panic!("it is ARG") };
    let found: Vec<(&str, Option<&str>)> = arg
        .args
        .iter()
        .map(|arg| (arg.name.raw.as_str(), arg.default.as_ref().map(|word| word.raw.as_str())))
        .collect();
    assert_eq!(found, [("a", None), ("b", Some("")), ("c", Some("\"d e\""))]);
}

#[test]
fn words_of_pairs_know_their_places() {
    let Kind::Env(env) = only("ENV a=b \\\n  key=\"v w\"").kind else { panic!("it is ENV") };
    let place = |word: &Word| (word.span.start.line, word.span.start.column, word.span.end.column);
    assert_eq!(place(&env.pairs[0].value), (2, 7, 8));
    assert_eq!(place(&env.pairs[1].key), (3, 3, 6));
    assert_eq!(place(&env.pairs[1].value), (3, 7, 12));
}

#[test]
fn copy_and_add_take_their_flags() {
    let Kind::Copy(copy) = only(
        "COPY --from=0x --chown=a:1 --chmod=u=rwX --link --parents=true --exclude=*.md \
         --exclude=x a \"b\" ./c/",
    )
    .kind
    else {
        panic!("it is COPY")
    };
    let transfer = &copy.transfer;
    assert_eq!(texts(&transfer.sources), ["a", "\"b\""]);
    assert_eq!(transfer.target.raw, "./c/");
    assert_eq!(copy.from.as_ref().map(|word| word.raw.as_str()), Some("0x"));
    assert_eq!(texts(&transfer.excludes), ["*.md", "x"]);
    assert!(transfer.link && copy.parents && !transfer.json);
    let Kind::Copy(copy) = only("COPY --link=FALSE [\"a b\", \"c\"]").kind else {
        panic!("it is COPY")
    };
    assert!(!copy.transfer.link && copy.transfer.json);
    assert_eq!(texts(&copy.transfer.sources), ["a b"]);
    let Kind::Add(add) =
        only("ADD --checksum=sha256:0 --unpack=false --keep-git-dir https://x/y /z").kind
    else {
        panic!("it is ADD")
    };
    assert_eq!(add.unpack, Some(false));
    assert_eq!(add.keep_git_dir, Some(true));
    assert_eq!(add.checksum.map(|word| word.raw).as_deref(), Some("sha256:0"));
}

#[test]
fn inline_files_come_from_heredocs() {
    let Kind::Copy(copy) = only("COPY <<-\"A\" x <<B /d/\n\t$a\n\tA\n$b\nB\n").kind else {
        panic!("it is COPY")
    };
    assert_eq!(texts(&copy.transfer.sources), ["x"]);
    let files: Vec<(&str, &str, bool)> = copy
        .transfer
        .inline_files
        .iter()
        .map(|file| (file.name.as_str(), file.content.as_str(), file.expand))
        .collect();
    assert_eq!(files, [("A", "$a\n", false), ("B", "$b\n", true)]);
}

#[test]
fn a_run_says_what_is_executed() {
    for (text, expected) in [
        ("RUN a  b", "shell:a  b"),
        ("RUN [\"a\", \"$b\"]", "exec:a|$b"),
        ("RUN <<EOF\na\nb\nEOF", "shell:a\nb\n"),
        ("RUN <<-EOF\n\t\ta\n\tEOF", "shell:a\n"),
        ("RUN <<X\n#!/bin/python\nprint(1)\nX", "file X:#!/bin/python\nprint(1)\n"),
        ("RUN cat <<A > /x <<-B\n1\nA\n\t2\n\tB", "shell:cat <<A > /x <<-B\n1\nA\n\t2\nB"),
        ("RUN cat <<A\n#!/x\nA", "shell:cat <<A\n#!/x\nA"),
        ("RUN --network=none <<EOF\nx\nEOF", "shell:x\n"),
    ] {
        let instruction = only(text);
        let found = match instruction.script().expect("it is RUN") {
            Script::Exec(words) => format!("exec:{}", words.join("|")),
            Script::Shell(text) => format!("shell:{text}"),
            Script::File { name, content } => format!("file {name}:{content}"),
        };
        assert_eq!(found, expected, "{text}");
    }
    assert_eq!(only("USER a").script(), None);
}

#[test]
fn run_takes_its_flags() {
    let Kind::Run(run) =
        only("RUN --network=host --security=insecure --mount=target=. --mount=type=ssh x").kind
    else {
        panic!("it is RUN")
    };
    assert_eq!((run.network, run.security), (Network::Host, Security::Insecure));
    assert_eq!(run.mounts.len(), 2);
}

#[test]
fn health_checks() {
    assert_eq!(only("HEALTHCHECK none").kind, Kind::Healthcheck(Healthcheck::None));
    let Kind::Healthcheck(Healthcheck::Command {
        command: found,
        interval,
        timeout,
        start_period,
        start_interval,
        retries,
    }) = only(
        "HEALTHCHECK --interval=1m30s --timeout=0 --start-period=5s --start-interval=1ms \
         --retries=3 CMD [\"a\"]",
    )
    .kind
    else {
        panic!("it is HEALTHCHECK")
    };
    assert_eq!(command(&found), "exec:a");
    assert_eq!(interval, Some(Duration::from_secs(90)));
    assert_eq!(timeout, Some(Duration::ZERO));
    assert_eq!(start_period, Some(Duration::from_secs(5)));
    assert_eq!(start_interval, Some(Duration::from_millis(1)));
    assert_eq!(retries, Some(3));
}

#[test]
fn the_rest() {
    for (text, expected) in [
        ("EXPOSE 80 $P 90-91/udp", vec!["80", "$P", "90-91/udp"]),
        ("VOLUME /a  $b", vec!["/a", "$b"]),
        ("VOLUME [\"/a b\", \" c \"]", vec!["/a b", "c"]),
        ("SHELL [\"a\", \"-c\"]", vec!["a", "-c"]),
        ("USER a b:c", vec!["a b:c"]),
        ("WORKDIR /a b", vec!["/a b"]),
        ("STOPSIGNAL $S", vec!["$S"]),
        ("MAINTAINER A B <c@d>", vec!["A B <c@d>"]),
    ] {
        let found = match only(text).kind {
            Kind::Expose(words) | Kind::Volume(words) | Kind::Shell(words) => words,
            Kind::User(word)
            | Kind::Workdir(word)
            | Kind::Stopsignal(word)
            | Kind::Maintainer(word) => vec![word],
            other => panic!("{other:?}"),
        };
        assert_eq!(texts(&found), expected, "{text}");
    }
}

#[test]
fn what_expands_is_said_in_one_place() {
    for (text, expected) in [
        ("RUN $a", ""),
        ("RUN --mount=type=cache,target=$a,id=b $c", "cache|$a|b"),
        ("CMD $a", ""),
        ("SHELL [\"$a\"]", ""),
        ("MAINTAINER $a", ""),
        ("HEALTHCHECK CMD $a", ""),
        ("ONBUILD USER $a", ""),
        ("ARG a b=$c", "$c"),
        ("ENV $a=$b", "$a|$b"),
        ("COPY --chmod=$m --chown=$o --exclude=$e --from=f $a $b", "$o|$m|$a|$b"),
        ("COPY <<A <<'B' /d\n$x\nA\n$y\nB", "/d|heredoc:$x\n"),
        ("ADD --checksum=$c a b", "$c|a|b"),
        ("EXPOSE $a", "words:$a"),
        ("VOLUME $a", "$a"),
        ("USER $a", "$a"),
        ("WORKDIR $a", "$a"),
        ("STOPSIGNAL $a", "$a"),
    ] {
        let instruction = only(text);
        let found: Vec<String> = instruction
            .expandable()
            .iter()
            .map(|field| match field {
                Expandable::Word(word) => word.raw.clone(),
                Expandable::Words(word) => format!("words:{}", word.raw),
                Expandable::Heredoc(file) => format!("heredoc:{}", file.content),
            })
            .collect();
        assert_eq!(found.join("|"), expected, "{text}");
    }
}
