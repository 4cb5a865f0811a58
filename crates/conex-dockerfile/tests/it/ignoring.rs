//! `.dockerignore` at the size of real contexts.

use conex_dockerfile::Ignore;

/// 50 patterns of the kinds that people write.
fn patterns() -> String {
    let mut text = String::new();
    for index in 0..10 {
        text += &format!(
            "build{index}\n**/*.ext{index}\n**/dir{index}\nlogs{index}/**\ntmp{index}*/x\n"
        );
    }
    text
}

/// 500 folders of 100 files.
fn paths() -> Vec<(String, Vec<String>)> {
    (0..500)
        .map(|folder| {
            let folder = format!("src/package{folder}");
            let files = (0..100).map(|file| format!("{folder}/module{file}.rs")).collect();
            (folder, files)
        })
        .collect()
}

#[test]
fn a_walk_of_fifty_thousand_files_agrees_with_single_questions() {
    let (ignore, diagnostics) = Ignore::parse(patterns().as_bytes());
    assert_eq!(diagnostics, []);
    let tree = paths();
    let started = std::time::Instant::now();
    let source = ignore.enter(&ignore.root(), b"src");
    let mut kept = 0;
    for (folder, files) in &tree {
        let state = ignore.enter(&source, folder.as_bytes());
        for file in files {
            kept += usize::from(!ignore.is_ignored_in(&state, file.as_bytes()));
        }
    }
    eprintln!("50,000 paths by 50 patterns: {:?}", started.elapsed());
    assert_eq!(kept, 50_000);
    for (_, files) in tree.iter().step_by(50) {
        assert!(!ignore.is_ignored(files[0].as_bytes()));
    }
}

#[test]
fn patterns_of_other_origins_follow_the_same_rules() {
    let ignore = Ignore::from_patterns([&b"*.md"[..], b"!README.md"]).expect("they are good");
    assert!(ignore.is_ignored(b"a.md"));
    assert!(!ignore.is_ignored(b"README.md"));
    assert!(Ignore::from_patterns([&b"["[..]]).is_err());
}
