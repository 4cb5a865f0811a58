//! Directives, comments, continuations, heredocs, stages.

use conex_dockerfile::{Dockerfile, Instruction, Kind, StageRef, parse, parse_onbuild};

fn parsed(text: &str) -> Dockerfile {
    let (file, diagnostics) = parse(text.as_bytes());
    assert_eq!(diagnostics, [], "{text}");
    file
}

/// The only stage's only instruction.
fn only(text: &str) -> Instruction {
    let mut file = parsed(&format!("FROM scratch\n{text}"));
    let mut stage = file.stages.pop().expect("there is a stage");
    assert_eq!(stage.instructions.len(), 1, "{text}");
    stage.instructions.remove(0)
}

#[test]
fn directives_stand_first_and_once() {
    for (text, escape, check) in [
        ("FROM a", '\\', None),
        ("# escape=`\nFROM a", '`', None),
        ("#ESCAPE =  ` \nFROM a", '`', None),
        (
            "# syntax=docker/dockerfile:1\n# escape=`\n# check=skip=all\nFROM a",
            '`',
            Some("skip=all"),
        ),
        ("\u{feff}# escape=`\nFROM a", '`', None),
        ("#!/usr/bin/env docker\n# escape=`\nFROM a", '`', None),
        // Anything that is no directive ends them: a comment, an unknown key, an empty line.
        ("# hello\n# escape=`\nFROM a", '\\', None),
        ("# foo=bar\n# escape=`\nFROM a", '\\', None),
        ("\n# escape=`\nFROM a", '\\', None),
        ("FROM a\n# escape=`\n", '\\', None),
    ] {
        let file = parsed(text);
        assert_eq!(file.escape, escape, "{text}");
        let found = file.directives.check.map(|word| word.raw);
        assert_eq!(found.as_deref(), check, "{text}");
    }
}

#[test]
fn continued_lines_become_one() {
    for (text, expected) in [
        ("RUN a \\\n b", "RUN a  b"),
        ("RUN a\\\nb", "RUN ab"),
        ("RUN a \\ \t\nb", "RUN a b"),
        ("RUN a \\\r\nb\r\n", "RUN a b"),
        ("RUN a \\\n# comment\n  # indented\n b", "RUN a  b"),
        ("RUN a \\\n\n\n b", "RUN a  b"),
        ("RUN a \\\\", "RUN a \\\\"),
        ("RUN a \\", "RUN a"),
        ("  RUN a", "RUN a"),
        ("\\\nRUN a", "RUN a"),
        ("R\\\nUN a", "RUN a"),
    ] {
        assert_eq!(only(text).text, expected, "{text:?}");
    }
    let file = parsed("# escape=`\nFROM a\nRUN x `\n C:\\\n");
    assert_eq!(file.stages[0].instructions[0].text, "RUN x  C:\\");
}

#[test]
fn empty_lines_in_continuations_are_kept_for_the_linter() {
    let run = only("RUN a \\\n\n  \n b");
    let lines: Vec<u32> = run.empty_continuations.iter().map(|span| span.start.line).collect();
    assert_eq!(lines, [3, 4]);
}

#[test]
fn every_byte_is_accounted_for() {
    let text = "# one\nFROM a AS b # no comment\n\n  # two\nRUN x \\\n # three\n y\nCOPY <<E <<-F /z\n1\nE\n\t2\n\tF\nUSER u";
    let (file, diagnostics) = parse(text.replace(" # no comment", "").as_bytes());
    assert_eq!(diagnostics, []);
    let text = text.replace(" # no comment", "");
    let comments: Vec<&str> = file.comments.iter().map(|c| &text[c.source.clone()]).collect();
    assert_eq!(comments, ["# one", "# two", "# three"]);
    let stage = &file.stages[0];
    let sources: Vec<&str> =
        stage.instructions.iter().map(|found| &text[found.source.clone()]).collect();
    assert_eq!(sources, ["RUN x \\\n # three\n y", "COPY <<E <<-F /z\n1\nE\n\t2\n\tF", "USER u"]);
    let bodies: Vec<&str> =
        stage.instructions[1].heredocs.iter().map(|h| &text[h.source.clone()]).collect();
    assert_eq!(bodies, ["1\n", "\t2\n"]);
    assert_eq!(stage.from.comments[0].text, "one");
    assert_eq!(stage.instructions[0].comments[0].text, "two");
}

#[test]
fn heredocs_are_read_as_the_shell_writes_them() {
    for (text, name, expand, strip, content) in [
        ("RUN <<EOF\na\nEOF", "EOF", true, false, "a\n"),
        ("RUN << EOF\na\nEOF", "EOF", true, false, "a\n"),
        ("RUN <<-EOF\n\ta\n\tEOF", "EOF", true, true, "\ta\n"),
        ("RUN <<'EOF'\na\nEOF", "EOF", false, false, "a\n"),
        ("RUN <<\"E\"OF\na\nEOF", "EOF", false, false, "a\n"),
        ("RUN <<EOF\n EOF\nEOF\n", "EOF", true, false, " EOF\n"),
        ("RUN <<EOF\n\\\n# text\n\nEOF\n", "EOF", true, false, "\\\n# text\n\n"),
        ("RUN <<EOF\r\na\r\nEOF\r\n", "EOF", true, false, "a\r\n"),
        ("RUN 3<<EOF cat\nEOF", "EOF", true, false, ""),
        ("ONBUILD RUN <<EOF\na\nEOF", "EOF", true, false, "a\n"),
    ] {
        let instruction = only(text);
        let heredoc = &instruction.heredocs[0];
        assert_eq!(heredoc.name, name, "{text:?}");
        assert_eq!(heredoc.expand, expand, "{text:?}");
        assert_eq!(heredoc.strip_tabs, strip, "{text:?}");
        assert_eq!(heredoc.content, content, "{text:?}");
    }
    assert_eq!(only("RUN 3<<EOF cat\nEOF").heredocs[0].file_descriptor, 3);
    // Not heredocs: here strings, quotes that do not close, the JSON form, other instructions.
    for text in ["RUN cat <<<x", "RUN echo 'a <<EOF", "RUN [\"a\", \"<<EOF\"]", "ENV a=<<EOF"] {
        assert_eq!(only(text).heredocs, [], "{text}");
    }
}

#[test]
fn stages_are_found_by_name_and_number() {
    let file = parsed("FROM x AS A\nFROM a AS b\nFROM b as a\nFROM scratch\n");
    assert_eq!(file.stage_named("a", 1).map(|stage| stage.index), Some(0));
    assert_eq!(file.stage_named("A", 4).map(|stage| stage.index), Some(2));
    assert_eq!(file.resolve_from(3, "a"), Ok(StageRef::Stage(2)));
    assert_eq!(file.resolve_from(1, "A"), Ok(StageRef::Stage(0)));
    assert_eq!(file.resolve_from(3, "1"), Ok(StageRef::Stage(1)));
    assert_eq!(file.resolve_from(3, "img"), Ok(StageRef::External("img".to_owned())));
    for (stage, from) in [(0, "0"), (3, "3"), (3, "99999999999999999999"), (1, "b"), (0, "b")] {
        assert!(file.resolve_from(stage, from).is_err(), "{from} in {stage}");
    }
    for (target, index) in [(None, 3), (Some("b"), 1), (Some("B"), 1), (Some("0"), 0)] {
        assert_eq!(file.target(target).map(|stage| stage.index), Ok(index), "{target:?}");
    }
    assert!(file.target(Some("c")).is_err());
}

#[test]
fn triggers_come_out_of_an_image_config() {
    let copy = parse_onbuild("COPY --from=x a b").expect("it is a good trigger");
    assert!(matches!(copy.kind, Kind::Copy(_)));
    let run = parse_onbuild("RUN <<EOF\na\nEOF").expect("it is a good trigger");
    assert_eq!(run.heredocs[0].content, "a\n");
    for trigger in ["", "# x", "RUN a\nRUN b", "FROM x", "ONBUILD RUN x", "MAINTAINER x", "NUR x"] {
        assert!(parse_onbuild(trigger).is_err(), "{trigger}");
    }
}

#[test]
fn a_trigger_is_stored_with_its_heredocs() {
    let onbuild = only("ONBUILD  RUN cat <<A \\\n <<-B\n1\nA\n\t2\n\tB\n");
    let Kind::Onbuild(onbuild) = onbuild.kind else { panic!("it is ONBUILD") };
    assert_eq!(onbuild.expression, "RUN cat <<A  <<-B\n1\nA\n\t2\nB");
    let again = parse_onbuild(&onbuild.expression).expect("it can be read again");
    assert_eq!(again.heredocs.len(), 2);
    assert_eq!(again.kind.name(), "RUN");
    assert_eq!(onbuild.trigger.text, again.text);
}
