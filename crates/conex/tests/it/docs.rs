//! `completion`, `man`, and the reference of all commands.

use crate::scene::Scene;

#[test]
fn every_shell_has_its_completion() {
    let Some(scene) = Scene::new() else { return };
    for shell in ["bash", "elvish", "fish", "powershell", "zsh"] {
        let script = scene.run(&["completion", shell]).ok();
        for word in ["images", "prune", "no-trunc"] {
            assert!(script.contains(word), "{shell} lacks {word}");
        }
    }
    scene.run(&["completion", "tcsh"]).fails(2);
}

#[test]
fn manual_pages_are_written() {
    let Some(scene) = Scene::new() else { return };
    assert!(scene.run(&["man"]).ok().contains(".TH conex 1"));
    scene.run(&["man", "pages/man1"]).ok();
    for page in ["conex.1", "conex-images.1", "conex-image-ls.1", "conex-system-check.1"] {
        let text = std::fs::read_to_string(scene.at("pages/man1").join(page)).unwrap();
        assert!(text.contains("Examples:") || page == "conex.1", "{page}");
    }
}

#[test]
fn the_reference_is_the_same_twice_and_forgets_what_is_no_more() {
    let Some(scene) = Scene::new() else { return };
    scene.write("docs/conex-gone.md", "a command that is no more");
    scene.write("docs/notes.md", "not a page of ours");
    scene.run(&["__docs", "docs"]).ok();
    let read = || {
        let mut pages: Vec<(String, String)> = std::fs::read_dir(scene.at("docs"))
            .unwrap()
            .map(|entry| entry.unwrap())
            .map(|entry| {
                let text = std::fs::read_to_string(entry.path()).unwrap();
                (entry.file_name().into_string().unwrap(), text)
            })
            .collect();
        pages.sort();
        pages
    };
    let first = read();
    let names: Vec<&str> = first.iter().map(|(name, _)| name.as_str()).collect();
    assert!(names.contains(&"conex-volume-ls.md") && names.contains(&"notes.md"));
    assert!(!names.contains(&"conex-gone.md"));
    scene.run(&["__docs", "docs"]).ok();
    assert_eq!(read(), first);
}

#[test]
fn help_is_no_failure_and_unknown_words_are() {
    let Some(scene) = Scene::new() else { return };
    for args in [&["--help"][..], &["images", "--help"], &["help", "volume", "ls"], &["-h"]] {
        assert!(scene.run(args).ok().contains("Usage: "), "{args:?}");
    }
    for args in [&[][..], &["imagse"], &["images", "--colour"], &["volume"]] {
        scene.run(args).fails(2);
    }
    assert!(scene.run(&["imagse"]).fails(2).contains("images"));
}
