//! What a person is told: every mistake, at its exact place, with what mends it.

use conex_dockerfile::parse;
use insta::assert_snapshot;

/// One line a diagnostic: place, text, hint.
fn said(text: &str) -> String {
    let (_, diagnostics) = parse(text.as_bytes());
    let lines: Vec<String> = diagnostics
        .iter()
        .map(|found| {
            let span = found.span.expect("every diagnostic has a place");
            let (start, end) = (span.start, span.end);
            let hint = found.hint.as_deref().map(|hint| format!(" | {hint}")).unwrap_or_default();
            format!(
                "{}:{}-{}:{} {}{hint}",
                start.line, start.column, end.line, end.column, found.message
            )
        })
        .collect();
    lines.join("\n")
}

#[test]
fn five_mistakes_are_five_diagnostics() {
    let text = "\
FROM alpine AS 1st
CPOY a /b
RUN --mout=type=cache,target=/x make
COPY --from=later a b
ENV a=1 b
FROM alpine AS later
";
    assert_snapshot!(said(text), @"
    1:16-1:19 `1st` is no stage name | a stage name begins with a letter and goes on with letters, digits, `-`, `_` and `.`
    2:1-2:5 unknown instruction `CPOY` | did you mean `COPY`?
    3:5-3:32 `RUN` has no flag `--mout` | did you mean `--mount`?
    4:13-4:18 stage `later` is defined later, on line 6 | move it before the stage that uses it
    5:9-5:10 `ENV` has the word `b` without `=` | put a value that holds spaces in double quotes
    ");
}

#[test]
fn mistakes_below_a_good_from_are_all_found() {
    let text = "\
FROM alpine
CPOY a /b
RUN --mount=type=cahce,target=/x make
COPY --from=2 a b
ENV a=1 b
EXPOSE 80/http
USER
";
    assert_snapshot!(said(text), @"
    2:1-2:5 unknown instruction `CPOY` | did you mean `COPY`?
    3:13-3:33 `cahce` is no mount type | did you mean `cache`?
    4:13-4:14 `2` is not the number of an earlier stage | this is the first stage; there is none before it
    5:9-5:10 `ENV` has the word `b` without `=` | put a value that holds spaces in double quotes
    6:8-6:15 `80/http` is no port to expose: the protocol is not `tcp`, `udp` or `sctp`
    7:1-7:5 `USER` needs a user
    ");
}

#[test]
fn places_are_right_behind_continuations() {
    let text = "FROM alpine\nCOPY --link \\\n  # note\n  --form=x \\\n  a b\n";
    assert_snapshot!(said(text), @"4:3-4:11 `COPY` has no flag `--form` | did you mean `--from`?");
}

#[test]
fn each_mistake_says_what_was_expected() {
    let cases = [
        "",
        "RUN x",
        "ARG a\nENV b=c\nFROM x",
        "# escape=x\nFROM a",
        "# escape=`\n# ESCAPE=`\nFROM a",
        "FROM a b",
        "FROM a AS b c",
        "FROM a\n\\",
        "FROM a\nRUN <<EOF\nx",
        "FROM a\nRUN",
        "FROM a\nRUN []",
        "FROM a\nRUN [\"a\", 1]",
        "FROM a\nCMD",
        "FROM a\nSHELL bash -c",
        "FROM a\nSHELL []",
        "FROM a\nCOPY a",
        "FROM a\nCOPY a <<EOF\nEOF",
        "FROM a\nCOPY <<x <<x /d\nx\nx",
        "FROM a\nCOPY <<../x /d\n../x",
        "FROM a\nCOPY --from=$X a b",
        "FROM a\nCOPY --link=yes a b",
        "FROM a\nCOPY --chown a b",
        "FROM a\nCOPY --chmod=999 a b",
        "FROM a\nCOPY --chown=a:b:c a b",
        "FROM a\nCOPY --link --link a b",
        "FROM a\nADD --from=x a b",
        "FROM a\nADD --checksum=sha256:0 a b c",
        "FROM a\nRUN --network=hots x",
        "FROM a\nRUN --security=none x",
        "FROM a\nRUN --device=gpu x",
        "FROM a\nRUN --mount=from=$x,target=/y z",
        "FROM a AS s\nCOPY --from=s a b",
        "FROM a\nHEALTHCHECK",
        "FROM a\nHEALTHCHECK NONE x",
        "FROM a\nHEALTHCHECK CMD",
        "FROM a\nHEALTHCHECK CDM x",
        "FROM a\nHEALTHCHECK --interval=1 CMD x",
        "FROM a\nHEALTHCHECK --interval=1us CMD x",
        "FROM a\nHEALTHCHECK --retries=-1 CMD x",
        "FROM a\nENV a",
        "FROM a\nENV =b",
        "FROM a\nARG =b",
        "FROM a\nVOLUME [\"\"]",
        "FROM a\nSTOPSIGNAL SIGTREM",
        "FROM a\nONBUILD ONBUILD RUN x",
        "FROM a\nONBUILD RNU x",
        "FROM a\nUSER --x y",
    ];
    let told: Vec<String> = cases
        .iter()
        .map(|text| {
            let said = said(text);
            assert!(!said.is_empty(), "{text:?} is a mistake");
            format!("{:?}\n  {}", text, said.replace('\n', "\n  "))
        })
        .collect();
    assert_snapshot!(told.join("\n"), @r##"
    ""
      1:1-1:1 Dockerfile has no `FROM` | begin with `FROM scratch` or the name of an image
    "RUN x"
      1:1-1:4 `RUN` stands before the first `FROM` | only `ARG` may stand there
      1:6-1:6 Dockerfile has no `FROM` | begin with `FROM scratch` or the name of an image
    "ARG a\nENV b=c\nFROM x"
      2:1-2:4 `ENV` stands before the first `FROM` | only `ARG` may stand there
    "# escape=x\nFROM a"
      1:10-1:11 parser directive `escape` is `\` or `` ` ``, not `x`
    "# escape=`\n# ESCAPE=`\nFROM a"
      2:1-2:11 parser directive `escape` stands twice
    "FROM a b"
      1:6-1:9 `FROM` needs one image, or an image and `AS` and a name | write it like `FROM debian:13 AS build`
    "FROM a AS b c"
      1:6-1:14 `FROM` needs one image, or an image and `AS` and a name | write it like `FROM debian:13 AS build`
    "FROM a\n\\"
      2:1-2:1 line continuation continues no instruction
    "FROM a\nRUN <<EOF\nx"
      2:1-2:10 heredoc `EOF` does not end | end it with a line that holds only `EOF`
    "FROM a\nRUN"
      2:1-2:4 `RUN` needs a command
    "FROM a\nRUN []"
      2:5-2:7 `RUN` needs a command
    "FROM a\nRUN [\"a\", 1]"
      2:5-2:13 `RUN` has a JSON array that holds more than strings | put every element in double quotes
    "FROM a\nCMD"
      2:1-2:4 `CMD` needs a command (an empty array, `[]`, clears it)
    "FROM a\nSHELL bash -c"
      2:7-2:14 `SHELL` needs a JSON array | write it like `SHELL ["/bin/bash", "-c"]`
    "FROM a\nSHELL []"
      2:7-2:9 `SHELL` needs a program
    "FROM a\nCOPY a"
      2:6-2:7 `COPY` needs a source and a target
    "FROM a\nCOPY a <<EOF\nEOF"
      2:8-2:13 `COPY` has a heredoc as its target | the target is the last word: `COPY <<EOF /path`
    "FROM a\nCOPY <<x <<x /d\nx\nx"
      2:10-2:13 two heredocs of one instruction are named `x` | give each its own name; the name is the file's name
    "FROM a\nCOPY <<../x /d\n../x"
      2:6-2:12 heredoc `../x` cannot be copied: its name is no file name
    "FROM a\nCOPY --from=$X a b"
      2:13-2:15 `--from` cannot hold variables, found `$X` | define a stage with `FROM $NAME AS name`, with a global `ARG NAME`, and use its name
    "FROM a\nCOPY --link=yes a b"
      2:6-2:16 flag `--link` is `true` or `false`, not `yes`
    "FROM a\nCOPY --chown a b"
      2:6-2:13 flag `--chown` needs a value | write `--chown=…`, without a space
    "FROM a\nCOPY --chmod=999 a b"
      2:14-2:17 `999` is no file mode | write it in octal, at most `07777`, or in symbols like `u=rwX,go=rX`
    "FROM a\nCOPY --chown=a:b:c a b"
      2:14-2:19 `a:b:c` is no `user[:group]`: a name has no `:`, `/` or line end
    "FROM a\nCOPY --link --link a b"
      2:13-2:19 flag `--link` stands twice
    "FROM a\nADD --from=x a b"
      2:5-2:13 `ADD` has no flag `--from` | its flags are `--chown`, `--chmod`, `--link`, `--exclude`, `--checksum`, `--unpack`, `--keep-git-dir`
    "FROM a\nADD --checksum=sha256:0 a b c"
      2:16-2:24 flag `--checksum` needs exactly one source
    "FROM a\nRUN --network=hots x"
      2:15-2:19 flag `--network` is one of `default`, `none`, `host`, not `hots` | did you mean `host`?
    "FROM a\nRUN --security=none x"
      2:16-2:20 flag `--security` is one of `sandbox`, `insecure`, not `none`
    "FROM a\nRUN --device=gpu x"
      2:14-2:17 flag `--device` is not supported | run the step without devices; conex has no CDI yet
    "FROM a\nRUN --mount=from=$x,target=/y z"
      2:13-2:30 `from` cannot hold variables, found `$x` | define a stage with `FROM $NAME AS name`, with a global `ARG NAME`, and use its name
    "FROM a AS s\nCOPY --from=s a b"
      2:13-2:14 stage `s` cannot copy from itself
    "FROM a\nHEALTHCHECK"
      2:1-2:12 `HEALTHCHECK` needs `CMD` or `NONE`
    "FROM a\nHEALTHCHECK NONE x"
      2:18-2:19 `HEALTHCHECK NONE` takes nothing behind it
    "FROM a\nHEALTHCHECK CMD"
      2:13-2:16 `HEALTHCHECK CMD` needs a command
    "FROM a\nHEALTHCHECK CDM x"
      2:13-2:16 `HEALTHCHECK` is followed by `CMD` or `NONE`, not `CDM` | did you mean `CMD`?
    "FROM a\nHEALTHCHECK --interval=1 CMD x"
      2:24-2:25 `1` is no duration | write numbers with units, like `30s` or `1m30s`
    "FROM a\nHEALTHCHECK --interval=1us CMD x"
      2:24-2:27 flag `--interval` is at least `1ms`, or `0` for the default
    "FROM a\nHEALTHCHECK --retries=-1 CMD x"
      2:23-2:25 flag `--retries` is a whole number, not `-1`
    "FROM a\nENV a"
      2:5-2:6 `ENV` has a name without a value | write it like `ENV NAME=value`
    "FROM a\nENV =b"
      2:5-2:7 `ENV` has a value without a name
    "FROM a\nARG =b"
      2:5-2:7 `ARG` has a value without a name
    "FROM a\nVOLUME [\"\"]"
      2:9-2:11 `VOLUME` has an empty path
    "FROM a\nSTOPSIGNAL SIGTREM"
      2:12-2:19 `SIGTREM` is no signal | did you mean `TERM`?
    "FROM a\nONBUILD ONBUILD RUN x"
      2:9-2:16 `ONBUILD` cannot be an `ONBUILD` trigger
    "FROM a\nONBUILD RNU x"
      2:9-2:12 unknown instruction `RNU` | did you mean `RUN`?
    "FROM a\nUSER --x y"
      2:6-2:9 `USER` has no flag `--x`
    "##);
}

#[test]
fn text_that_is_not_utf8_is_an_error_outside_comments() {
    let (_, diagnostics) = parse(b"# caf\xe9\nFROM a\nRUN x \\\n # \xff\n y\n");
    assert_eq!(diagnostics, []);
    let (_, diagnostics) = parse(b"FROM a\nRUN echo caf\xe9\nCOPY <<E /x\n\xff\nE\n");
    let lines: Vec<u32> =
        diagnostics.iter().filter_map(|found| Some(found.span?.start.line)).collect();
    assert_eq!(lines, [2, 4]);
}
