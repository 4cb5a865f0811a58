//! Which steps run again and which do not, and that the cache travels.

use std::process::Command;
use std::time::{Duration, SystemTime};

use crate::sandbox::{Sandbox, missing, program};

/// The steps that were taken from the cache, without those of FROM.
fn cached(shown: &str) -> Vec<String> {
    let mut names = std::collections::HashMap::new();
    let mut found = Vec::new();
    for line in shown.lines() {
        let Some((number, rest)) = line.split_once(' ') else { continue };
        if rest == "CACHED" {
            found.push(names.get(number).cloned().unwrap_or_default());
        } else if rest.starts_with('[') {
            names.insert(number.to_owned(), rest.split_once("] ").unwrap().1.to_owned());
        }
    }
    found.retain(|name: &String| !name.starts_with("FROM"));
    found.sort();
    found
}

#[test]
fn only_what_changed_runs_again() {
    let Some(sandbox) = Sandbox::with_base() else { return };
    sandbox.write("context/a", "1");
    sandbox.write("context/b", "1");
    let file = "FROM base\nARG V=1\nCOPY a /a\nRUN echo one\nCOPY b /b\nRUN echo $V\nWORKDIR /w\n";
    assert_eq!(cached(&sandbox.built(file, &[])), Vec::<String>::new());
    let all = ["COPY a /a", "COPY b /b", "RUN echo $V", "RUN echo one", "WORKDIR /w"];
    assert_eq!(cached(&sandbox.built(file, &[])), all);
    // A new time alone changes nothing.
    let touched = std::fs::File::options().write(true).open(sandbox.at("context/a")).unwrap();
    touched.set_modified(SystemTime::now() - Duration::from_secs(99_999)).unwrap();
    assert_eq!(cached(&sandbox.built(file, &[])), all);
    sandbox.write("context/b", "2");
    assert_eq!(cached(&sandbox.built(file, &[])), ["COPY a /a", "RUN echo one"]);
    // A declared argument is for every RUN behind it; what came out the same serves on.
    let again = sandbox.built(file, &["--build-arg", "V=2"]);
    assert_eq!(cached(&again), ["COPY a /a", "COPY b /b", "WORKDIR /w"]);
    sandbox.write_mode("context/a", "1", 0o600);
    assert_eq!(cached(&sandbox.built(file, &[])), Vec::<String>::new());
    assert_eq!(cached(&sandbox.built(file, &["--no-cache"])), Vec::<String>::new());
    // What nobody copies does not matter.
    sandbox.write("context/c", "1");
    assert_eq!(cached(&sandbox.built(file, &[])), all);
}

#[test]
fn what_is_overridden_does_not_count() {
    let Some(sandbox) = Sandbox::with_base() else { return };
    let file = "FROM base\nCOPY --chmod=644 f /f\n";
    sandbox.write_mode("context/f", "1", 0o600);
    sandbox.built(file, &[]);
    sandbox.write_mode("context/f", "1", 0o755);
    assert_eq!(cached(&sandbox.built(file, &[])), ["COPY --chmod=644 f /f"]);
    // A stage that comes out the same is a hit for what copies from it.
    let stages = |n: u8| {
        format!(
            "FROM base AS a\nRUN : {n}; echo same > /f\nFROM base\nCOPY --from=a /f /g\nRUN : end\n"
        )
    };
    sandbox.built(&stages(1), &[]);
    assert_eq!(cached(&sandbox.built(&stages(2), &[])), ["COPY --from=a /f /g", "RUN : end"]);
    // A proxy is no reason.
    sandbox.built("FROM base\nRUN : p\n", &["--build-arg", "http_proxy=a"]);
    let again = sandbox.built("FROM base\nRUN : p\n", &["--build-arg", "http_proxy=b"]);
    assert_eq!(cached(&again), ["RUN : p"]);
    // A file found by a wildcard counts by name, too.
    sandbox.write("context/w/one", "1");
    sandbox.built("FROM base\nCOPY w/* /w/\n", &[]);
    std::fs::rename(sandbox.at("context/w/one"), sandbox.at("context/w/two")).unwrap();
    assert_eq!(cached(&sandbox.built("FROM base\nCOPY w/* /w/\n", &[])), Vec::<String>::new());
}

#[test]
fn stages_can_be_built_again_by_name() {
    let Some(sandbox) = Sandbox::with_base() else { return };
    let file = "FROM base AS a\nRUN echo a > /a\nFROM base AS b\nRUN echo b > /b\nFROM base\nCOPY --from=a /a /\nCOPY --from=b /b /\n";
    sandbox.built(file, &[]);
    let got = cached(&sandbox.built(file, &["--no-cache-filter", "a"]));
    assert_eq!(got, ["COPY --from=a /a /", "COPY --from=b /b /", "RUN echo b > /b"]);
}

#[test]
fn a_miss_is_explained() {
    let Some(sandbox) = Sandbox::with_base() else { return };
    sandbox.write("context/f", "1");
    let file = "FROM base\nCOPY f /f\nENV A=1\nRUN true\n";
    let shown = sandbox.built(file, &["--explain"]);
    assert!(shown.contains("has not been built here before"), "{shown}");
    assert!(sandbox.built(file, &["--explain"]).contains("hit: "));
    sandbox.write("context/f", "2");
    let shown = sandbox.built(&file.replace("A=1", "A=2"), &["--explain"]);
    assert!(shown.contains("content of `f` changed"), "{shown}");
    assert!(shown.contains("variable A changed: `1` → `2`"), "{shown}");
}

#[test]
fn a_cache_travels_to_another_store() {
    let Some(first) = Sandbox::with_base() else { return };
    let Some(second) = Sandbox::with_base() else { return };
    let file = "FROM base\nCOPY f /f\nRUN echo made > /m\nRUN true\n";
    for sandbox in [&first, &second] {
        sandbox.write("context/f", "1");
    }
    let to = format!("type=local,dest={}", first.text("cache"));
    first.built(file, &["--cache-to", &to, "-t", "it"]);
    let from = format!("type=local,src={}", first.text("cache"));
    let shown = second.built(file, &["--cache-from", &from, "-t", "it"]);
    assert_eq!(cached(&shown).len(), 3, "{shown}");
    assert_eq!(first.id("it"), second.id("it"));
    let Some(third) = Sandbox::with_base() else { return };
    third.write("context/f", "1");
    let layout = format!("type=oci,dest={}", first.text("inline.tar"));
    first.built(
        file,
        &["--cache-to", "type=inline", "-t", "inline", "-o", &layout, "-o", "type=image"],
    );
    third.ok(&["load", "-q", "-i", &first.text("inline.tar")]);
    let missing =
        third.build(file, &["--cache-from", &format!("type=local,src={}", third.text("nosuch"))]);
    assert_eq!(missing.code, 0, "a cache that is not there is only a warning: {}", missing.err);
}

#[test]
fn extended_attributes_count() {
    if program("setfattr").is_none() {
        return missing("setfattr");
    }
    let Some(sandbox) = Sandbox::with_base() else { return };
    let file = sandbox.write("context/f", "1");
    let build = "FROM base\nCOPY f /f\n";
    sandbox.built(build, &[]);
    let mut set = Command::new("setfattr");
    let set = set.args(["-n", "user.note", "-v", "new"]).arg(&file).output().unwrap();
    if !set.status.success() {
        return eprintln!("skipped: no extended attributes on this file system");
    }
    assert_eq!(cached(&sandbox.built(build, &[])), Vec::<String>::new());
    assert_eq!(cached(&sandbox.built(build, &[])), ["COPY f /f"]);
}

#[test]
fn an_image_goes_without_what_it_was_built_on() {
    let Some(sandbox) = Sandbox::with_base() else { return };
    let below = "FROM base\nRUN touch /below\n";
    sandbox.built(below, &["-t", "it"]);
    let parent = sandbox.id("it");
    sandbox.built(&format!("{below}RUN touch /above\n"), &["-t", "it"]);
    let child = sandbox.id("it");
    for no_prune in [true, false] {
        let args = if no_prune { &["rmi", "--no-prune", "it"][..] } else { &["rmi", "it"] };
        sandbox.ok(args);
        let left = sandbox.ok(&["images", "-q", "-a", "--no-trunc"]);
        assert!(left.contains(&parent) && !left.contains(&child), "{left}");
        sandbox.built(&format!("{below}RUN touch /above\n"), &["-t", "it"]);
    }
    let wrong = sandbox.build("FROM base\n", &["--build-arg", "SOURCE_DATE_EPOCH=context"]);
    assert_eq!(wrong.code, 2);
    assert!(wrong.err.contains("`context`, not a number of seconds"), "{}", wrong.err);
}
