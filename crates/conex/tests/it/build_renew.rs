//! Programs that look at times to know what to make again, with what they made in a cache mount.

use crate::sandbox::Sandbox;

/// Makes each file of `/s` again that is newer than what was made of it, as make would. What is
/// made is dated back, for busybox looks at whole seconds only.
const MAKE: &str = "for f in /s/* /s/*/*; do [ -f $f ] || continue; o=/c/$(echo $f | tr / _); \
    if [ ! -e $o ] || [ $f -nt $o ]; then echo made $f; cat $f > $o; touch -d '2020-01-01 00:00:00' $o; else echo kept $f; fi; done; \
    cat /c/* | tr '\\n' ' ' > /result; [ ! -e /s/broken ] || exit 1";

/// What a step said of each file.
fn made(shown: &str) -> Vec<String> {
    let lines = shown.lines().filter_map(|line| line.split_once(" made /s/"));
    lines.map(|(_, name)| name.to_owned()).collect()
}

struct Project {
    sandbox: Sandbox,
    dockerfile: String,
}

impl Project {
    fn new(dockerfile: &str) -> Option<Self> {
        let sandbox = Sandbox::with_base()?;
        Some(Self { sandbox, dockerfile: dockerfile.replace("MAKE", MAKE) })
    }

    fn write(&self, name: &str, content: &str) {
        self.sandbox.write(&format!("context/s/{name}"), content);
    }

    /// Builds; gives what was made again.
    #[track_caller]
    fn build(&self, args: &[&str]) -> Vec<String> {
        made(&self.sandbox.built(&self.dockerfile, args))
    }
}

#[test]
fn what_changed_is_new_and_what_did_not_is_old() {
    for dockerfile in [
        "FROM base\nCOPY s /s\nRUN --mount=type=cache,target=/c MAKE\n",
        "FROM base\nCOPY s/a s/b /s/\nCOPY s/d /s/d\nCOPY s/brok[e]n /s/\nRUN --mount=type=cache,target=/c MAKE\n",
        "FROM scratch AS src\nCOPY s /s\nFROM base\nCOPY --from=src /s /s\nRUN --mount=type=cache,target=/c MAKE\n",
        "FROM scratch AS src\nCOPY s /\nFROM base\nRUN --mount=from=src,target=/s --mount=type=cache,target=/c MAKE\n",
        "FROM base\nCOPY s /from\nRUN cp -r /from /s\nRUN --mount=type=cache,target=/c MAKE\n",
    ] {
        let Some(project) = Project::new(dockerfile) else { return };
        for (name, content) in [("a", "a1\n"), ("b", "b1\n"), ("d/e", "e1\n")] {
            project.write(name, content);
        }
        assert_eq!(project.build(&[]), ["a", "b", "d/e"], "{dockerfile}");
        assert!(project.build(&["--no-cache"]).is_empty(), "nothing changed: {dockerfile}");
        project.write("a", "a2\n");
        assert_eq!(project.build(&[]), ["a"], "{dockerfile}");
        project.write("d/e", "e2\n");
        assert_eq!(project.build(&[]), ["d/e"], "{dockerfile}");
        // Back to what it was, with something else new, so that the step runs.
        project.write("a", "a1\n");
        project.write("b", "b2\n");
        assert_eq!(project.build(&[]), ["a", "b"], "{dockerfile}");
        assert!(project.build(&["--no-cache"]).is_empty(), "{dockerfile}");
        // A step that fails made something all the same.
        project.write("a", "a3\n");
        project.write("broken", "");
        let failed = project.sandbox.build(&project.dockerfile, &[]);
        assert_eq!(failed.code, 1);
        assert_eq!(made(&failed.err), ["a", "broken"], "{dockerfile}");
        std::fs::remove_file(project.sandbox.at("context/s/broken")).unwrap();
        project.write("a", "a1\n");
        assert_eq!(project.build(&["--no-cache"]), ["a"], "{dockerfile}");
        // The image has nothing of all that: it is the one that a fresh store would make.
        project.sandbox.built(&project.dockerfile, &["-t", "it"]);
        let result = project.sandbox.ok(&["run", "--rm", "it", "cat", "/result"]);
        assert!(result.contains("a1 b2 ") && result.contains("e2 "), "{result}");
        let fresh = Sandbox::with_base().unwrap();
        let context = project.sandbox.text("context");
        let args = ["build", "-q", "-f", "-", &context];
        let ended = fresh.conex_with(&args, project.dockerfile.as_bytes());
        assert_eq!(ended.out.trim(), project.sandbox.id("it"), "{dockerfile}{}", ended.err);
    }
}

#[test]
fn a_cache_that_came_from_elsewhere_is_not_trusted_to_be_of_the_same_files() {
    let dockerfile = "FROM base\nCOPY s /s\nRUN --mount=type=cache,target=/c MAKE\n";
    let Some(project) = Project::new(dockerfile) else { return };
    project.write("a", "a1\n");
    project.write("b", "b1\n");
    project.build(&[]);
    let file = project.sandbox.text("cache.tar");
    project.sandbox.ok(&["cache", "export", "-o", &file, "/c"]);
    project.write("a", "a2\n");
    project.build(&[]);
    project.sandbox.ok(&["cache", "import", "/c", &file]);
    assert_eq!(project.build(&["--no-cache"]), ["a", "b"]);
}

#[test]
fn another_project_in_the_same_cache_is_seen_as_changed() {
    let dockerfile = "FROM base\nCOPY s /s\nRUN --mount=type=cache,target=/c,id=all MAKE\n";
    let Some(project) = Project::new(dockerfile) else { return };
    project.write("a", "one\n");
    assert_eq!(project.build(&[]), ["a"]);
    // Another base image, and other files of the same names.
    project.sandbox.built("FROM base\nRUN touch /else\n", &["-t", "base2"]);
    project.write("a", "two\n");
    let other = project.dockerfile.replace("FROM base", "FROM base2");
    assert_eq!(made(&project.sandbox.built(&other, &[])), ["a"]);
    project.write("a", "one\n");
    assert_eq!(project.build(&["--no-cache"]), ["a"]);
}
