//! `lint`, `explain`, `fmt`, `lsp`: what people and pipelines see of the linter.

mod editor;
mod hadolint;

use crate::sandbox::Sandbox;
use crate::scene::json;

const FAULTY: &str = "FROM debian:13\n# why\nRUN apt-get update && \\\n    apt-get install  git=1 # x\n\
                      MAINTAINER me\nCMD server --port 80\n";

/// A folder to work in; the linter needs no store.
fn sandbox(files: &[(&str, &str)]) -> Sandbox {
    let sandbox = Sandbox::new();
    for (name, text) in files {
        sandbox.write(name, text);
    }
    sandbox
}

/// Runs the program: exit code, standard output, standard error.
fn run(sandbox: &Sandbox, args: &[&str]) -> (i32, String, String) {
    let ended = sandbox.conex(args);
    (ended.code, ended.out, ended.err)
}

fn read(sandbox: &Sandbox, path: &str) -> String {
    std::fs::read_to_string(sandbox.at(path)).unwrap()
}

fn codes(text: &str) -> Vec<String> {
    json(text)
        .as_array()
        .unwrap()
        .iter()
        .map(|one| format!("{}:{}", one["code"].as_str().unwrap(), one["line"]))
        .collect()
}

#[test]
fn findings_are_shown_with_their_lines_and_fail_with_3() {
    let sandbox = sandbox(&[("Dockerfile", FAULTY)]);
    let (code, out, err) = run(&sandbox, &["lint", "Dockerfile"]);
    assert_eq!((code, err.as_str()), (3, ""));
    for part in
        ["Dockerfile:4:13: warning[AptGetYes]", "^^^^^^^", "hint: ", "(DL3014)", "`--fix` mends"]
    {
        assert!(out.contains(part), "{part}: {out}");
    }
    for (args, expected) in [
        (&["-t", "error"][..], 0),
        (&["-t", "warning"], 3),
        (&["-t", "none"], 0),
        (&["--no-fail"], 0),
        (&["--exit-code", "1"], 1),
        (&["--error", "DL3014", "-t", "error"], 3),
        (&["-t", "worst"], 2),
        (&["-f", "colour"], 2),
        (&["--rules", "99"], 2),
        (&["--rules", "1", "-t", "error"], 0),
    ] {
        let all: Vec<&str> = ["lint", "Dockerfile"].iter().chain(args).copied().collect();
        assert_eq!(run(&sandbox, &all).0, expected, "{args:?}");
    }
    let (code, out, _) = run(&sandbox, &["lint", "no-such-file"]);
    assert_eq!((code, out.as_str()), (1, ""));
}

#[test]
fn files_folders_and_standard_input_are_looked_at() {
    let good = "FROM debian:13\nUSER 1000\nCMD [\"a\"]\n";
    let sandbox = sandbox(&[
        ("a/Dockerfile", "FROM debian\n"),
        ("a/b/Dockerfile.dev", "FROM debian\n"),
        ("a/app.Dockerfile", good),
        ("a/node_modules/Dockerfile", "FROM debian\n"),
        ("a/notes.md", "FROM debian\n"),
    ]);
    let (_, out, _) = run(&sandbox, &["lint", "-f", "tty", "a"]);
    let files: Vec<&str> = out.lines().map(|line| line.split(':').next().unwrap()).collect();
    assert_eq!(files, ["a/Dockerfile", "a/b/Dockerfile.dev"], "{out}");
    let ended = sandbox.conex_with(&["lint", "-f", "json", "-"], b"FROM debian\n");
    assert_eq!(codes(&ended.out), ["DL3006:1"]);
    assert_eq!(json(&ended.out)[0]["file"], "-");
    let (code, _, err) = run(&sandbox, &["lint", "a/node_modules/.."]);
    assert_eq!(code, 3, "{err}");
    let (code, out, _) = run(&sandbox, &["lint", "a/app.Dockerfile"]);
    assert_eq!((code, out.as_str()), (0, "a/app.Dockerfile: nothing found\n"));
}

#[test]
fn settings_of_hadolint_and_of_conex_count() {
    let text = "FROM debian\nRUN cd /a\nLABEL x=1\n";
    let sandbox = sandbox(&[
        ("Dockerfile", text),
        (
            ".hadolint.yaml",
            "ignored: [DL3003]\noverride:\n  info: [DL3006]\nlabel-schema:\n  x: semver\n",
        ),
    ]);
    let found = |args: &[&str]| {
        let all: Vec<&str> =
            ["lint", "-f", "json", "Dockerfile"].iter().chain(args).copied().collect();
        let (_, out, err) = run(&sandbox, &all);
        assert_eq!(err, "");
        codes(&out)
    };
    assert_eq!(found(&[]), ["DL3006:1", "DL3056:3"]);
    // As with hadolint, the flag replaces the list.
    assert_eq!(found(&["--ignore", "DL3006"]), ["DL3003:2", "DL3056:3"]);
    assert_eq!(found(&["-t", "warning", "--ignore", "LabelVersion"]), ["DL3006:1", "DL3003:2"]);
    sandbox.write(".conex.toml", "[lint]\nignore = [\"ImageWithoutTag\"]\n");
    assert_eq!(found(&[]), ["DL3056:3"]);
    sandbox.write("other.yaml", "trustedRegistries: [example.test]\n");
    assert_eq!(found(&["-c", "other.yaml"]), ["DL3006:1", "DL3026:1", "DL3003:2"]);
    sandbox.write("wrong.yaml", "ignord: []\n");
    let (code, _, err) = run(&sandbox, &["lint", "-c", "wrong.yaml", "Dockerfile"]);
    assert_eq!(code, 1);
    assert!(err.contains("there is no setting `ignord`") && err.contains("`ignored`"), "{err}");
}

#[test]
fn requirements_are_read_where_they_lie() {
    let text = "FROM a:1\nUSER 1\nCOPY *.txt .\nRUN pip install --no-cache-dir -r /x/req.txt\n";
    let sandbox = sandbox(&[("Dockerfile", text), ("req.txt", "a==1\nflask\n")]);
    let found = || {
        let (_, out, _) = run(&sandbox, &["lint", "-f", "gnu", "Dockerfile"]);
        out.lines().filter(|line| line.contains("RequirementsUnpinned")).count()
    };
    assert_eq!(found(), 1);
    sandbox.write("req.txt", "a==1\nflask==3 # why\n");
    assert_eq!(found(), 0);
    // A link may lead anywhere: it is not followed.
    std::fs::remove_file(sandbox.at("req.txt")).unwrap();
    sandbox.write("other", "flask\n");
    std::os::unix::fs::symlink("other", sandbox.at("req.txt")).unwrap();
    assert_eq!(found(), 0);
}

#[test]
fn comments_ignore_findings() {
    let text = "# hadolint global ignore=DL3006\nFROM debian\n# hadolint ignore=DL3003\nRUN cd /a\n\
                # conex ignore CdNotWorkdir it is meant\nRUN cd /b && a && b && c\n\
                # check=skip=CdNotWorkdir\nRUN cd /c && a && b && c\nRUN cd /d && a && b && c\n";
    let sandbox = sandbox(&[("Dockerfile", text)]);
    let (_, out, _) = run(&sandbox, &["lint", "-f", "json"]);
    assert_eq!(codes(&out), ["DL3003:9"]);
    let (_, out, _) = run(&sandbox, &["lint", "-f", "json", "--disable-ignore-pragma"]);
    assert_eq!(codes(&out), ["DL3006:2", "DL3003:4", "DL3003:6", "DL3003:8", "DL3003:9"]);
}

#[test]
fn fixes_change_what_they_mend_and_nothing_else() {
    let sandbox = sandbox(&[("Dockerfile", FAULTY)]);
    let (code, diff, err) = run(&sandbox, &["lint", "--fix", "--diff"]);
    assert_eq!((code, read(&sandbox, "Dockerfile").as_str()), (0, FAULTY), "{err}");
    // The numbers are those of the summary.
    let (_, shown, _) = run(&sandbox, &["lint"]);
    assert!(shown.contains("; `--fix` mends 3, with"), "{shown}");
    assert!(err.contains("3 findings would be mended in 1 file; "), "{err}");
    insta::assert_snapshot!(diff, @r#"
    --- a/Dockerfile
    +++ b/Dockerfile
    @@ -1,6 +1,6 @@
     FROM debian:13
     # why
     RUN apt-get update && \
    -    apt-get install  git=1 # x
    -MAINTAINER me
    -CMD server --port 80
    +    apt-get install -y  git=1 # x
    +LABEL org.opencontainers.image.authors="me"
    +CMD ["server", "--port", "80"]
    "#);
    let (code, out, err) = run(&sandbox, &["lint", "--fix"]);
    assert_eq!((code, out.as_str()), (0, ""), "{err}");
    let fixed = read(&sandbox, "Dockerfile");
    assert!(fixed.contains("install -y  git=1 # x\nLABEL "), "{fixed}");
    run(&sandbox, &["lint", "--fix"]);
    assert_eq!(read(&sandbox, "Dockerfile"), fixed);
    let ended = sandbox.conex_with(&["lint", "--fix", "--only", "DL4000", "-"], FAULTY.as_bytes());
    assert!(ended.out.contains("LABEL ") && ended.out.contains("CMD server"), "{}", ended.out);
    let (code, _, err) = run(&sandbox, &["lint", "--fix", "--only", "DL9999"]);
    assert!(code == 2 && err.contains("no rule is called"), "{err}");
}

#[test]
fn packages_are_pinned_to_the_versions_of_an_image() {
    let file = "FROM debian:13\nRUN apt-get install -y --no-install-recommends git zsh\n";
    let sandbox = sandbox(&[("Dockerfile", file)]);
    let status = "Package: git\nStatus: install ok installed\nArchitecture: amd64\n\
                  Version: 1:2.47.3-0+deb13u1\n\n";
    let mut tar = conex_layer::TarWriter::new(Vec::new());
    let header = conex_layer::EntryHeader::file("var/lib/dpkg/status", status.len() as u64);
    tar.append(&header, status.as_bytes()).unwrap();
    sandbox.write("files.tar", tar.finish().unwrap());
    sandbox.ok(&["import", &sandbox.text("files.tar"), "app"]);
    let words = ["lint", "--fix", "--only", "DL3008", "--versions-from"];
    let (code, _, err) = run(&sandbox, &[&words[..], &["app"]].concat());
    let fixed = read(&sandbox, "Dockerfile");
    assert!(fixed.ends_with("git=1:2.47.3-0+deb13u1 zsh\n"), "{code}: {fixed}{err}");
    let (code, _, err) = run(&sandbox, &[&words[..], &["./none.tar"]].concat());
    assert!(code == 1 && err.contains("none.tar"), "{err}");
}

#[test]
fn every_format_is_written_and_can_be_a_file() {
    let sandbox = sandbox(&[("Dockerfile", FAULTY)]);
    for format in conex_formats() {
        let (code, out, err) = run(&sandbox, &["lint", "-f", format, "-o", "out"]);
        assert_eq!((code, out.as_str(), err.as_str()), (3, "", ""), "{format}");
        assert!(read(&sandbox, "out").contains("DL3014") || format == "text", "{format}");
    }
    let (_, out, _) = run(&sandbox, &["lint", "-f", "sarif"]);
    assert_eq!(json(&out)["version"], "2.1.0");
}

fn conex_formats() -> [&'static str; 12] {
    [
        "text",
        "tty",
        "gnu",
        "json",
        "sarif",
        "checkstyle",
        "junit",
        "codeclimate",
        "gitlab",
        "sonarqube",
        "codacy",
        "github",
    ]
}

#[test]
fn rules_are_explained_by_name_and_by_code() {
    let sandbox = sandbox(&[]);
    let (_, page, _) = run(&sandbox, &["explain", "dl3009"]);
    for part in ["# AptListsLeft", "## Why", "## Bad", "## Good", "DL3009"] {
        assert!(page.contains(part), "{part}: {page}");
    }
    assert_eq!(run(&sandbox, &["explain", "AptListsLeft"]).1, page);
    let (_, list, _) = run(&sandbox, &["explain"]);
    assert!(list.lines().count() > 100 && list.starts_with("RULE"), "{list}");
    let (code, _, err) = run(&sandbox, &["explain", "AptListLeft"]);
    assert!(code == 2 && err.contains("did you mean `AptListsLeft`?"), "{err}");
}

#[test]
fn pages_of_rules_are_current() {
    let sandbox = sandbox(&[]);
    let (code, _, err) = run(&sandbox, &["explain", "--pages", "pages"]);
    assert_eq!(code, 0, "{err}");
    let docs = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/rules");
    let names = |folder: &std::path::Path| {
        let mut names: Vec<String> = std::fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    };
    assert_eq!(names(&docs), names(&sandbox.at("pages")), "run `conex explain --pages docs/rules`");
    for name in names(&docs) {
        let committed = std::fs::read_to_string(docs.join(&name)).unwrap();
        let made = read(&sandbox, &format!("pages/{name}"));
        assert_eq!(committed, made, "{name}: run `conex explain --pages docs/rules`");
    }
}

#[test]
fn files_are_laid_out_and_say_the_same() {
    let messy = "from   debian:13  as a\n\n\n\nrun  echo 'a  \\\n  b' && \\\n  c   \n";
    let neat = "FROM debian:13 AS a\n\nRUN echo 'a  \\\n  b' && \\\n    c\n";
    let sandbox = sandbox(&[("a/Dockerfile", messy), ("b/Dockerfile", neat)]);
    assert_eq!(run(&sandbox, &["fmt", "--check", "b"]), (0, String::new(), String::new()));
    let (code, out, _) = run(&sandbox, &["fmt", "--check", "a", "b"]);
    assert_eq!((code, out.as_str()), (3, "a/Dockerfile\n"));
    let (code, diff, _) = run(&sandbox, &["fmt", "--diff", "."]);
    assert!(code == 0 && diff.contains("+FROM debian:13 AS a"), "{diff}");
    assert_eq!(read(&sandbox, "a/Dockerfile"), messy);
    assert_eq!(run(&sandbox, &["fmt", "."]), (0, String::new(), String::new()));
    assert_eq!(read(&sandbox, "a/Dockerfile"), neat);
    let ended = sandbox.conex_with(&["fmt", "-"], messy.as_bytes());
    assert_eq!((ended.code, ended.out.as_str()), (0, neat));
    // A file with mistakes is left alone, and that is said.
    let ended = sandbox.conex_with(&["fmt", "-"], b"FORM a\n");
    assert_eq!((ended.code, ended.out.as_str()), (1, "FORM a\n"));
    assert!(ended.err.contains("left alone"), "{}", ended.err);
}
