//! The bounds hold, and what is within them is fast enough.

use conex_dockerfile::limits::{
    DIAGNOSTIC_COUNT_MAX, DOCKERFILE_SIZE_MAX, INSTRUCTION_COUNT_MAX, LINE_SIZE_MAX,
};
use conex_dockerfile::parse;

fn messages(text: &str) -> Vec<String> {
    parse(text.as_bytes()).1.into_iter().map(|found| found.message).collect()
}

#[test]
fn sizes_and_counts_are_bounded() {
    let line = |length: usize| format!("FROM a\nRUN {}\n", "x".repeat(length - 4));
    assert_eq!(messages(&line(LINE_SIZE_MAX)), Vec::<String>::new());
    assert_eq!(messages(&line(LINE_SIZE_MAX + 1)).len(), 1);
    assert_eq!(messages(&"#".repeat(DOCKERFILE_SIZE_MAX + 1)).len(), 1);
    let many = format!("FROM a\n{}", "USER x\n".repeat(INSTRUCTION_COUNT_MAX));
    assert_eq!(messages(&many).len(), 1);
    let wrong = format!("FROM a\n{}", "NO x\n".repeat(DIAGNOSTIC_COUNT_MAX * 2));
    assert_eq!(messages(&wrong).len(), DIAGNOSTIC_COUNT_MAX + 1);
}

#[test]
fn hostile_files_take_time_in_proportion_to_their_size() {
    for text in [
        format!("FROM a\nENV {}", "a=b ".repeat(15_000)),
        format!("FROM a\nENV {}", "é=ü ".repeat(10_000)),
        format!("FROM a\nRUN {}", "x\\\n".repeat(1_000_000)),
        format!("FROM a\nRUN x {}", "\\\n#\n".repeat(1_000_000)),
        format!("FROM a\nENV x=y {}", "\\\nc=d ".repeat(400_000)),
        format!("FROM a\nRUN {}", "<<a ".repeat(16_000)),
        format!("FROM a\nCOPY {} /d", "<<a ".repeat(3_000)),
        format!("FROM a\nCMD [{}\"\"]", "\"a\",".repeat(15_000)),
        format!("FROM a\nCMD {}", "[".repeat(60_000)),
        "FROM a\n".repeat(INSTRUCTION_COUNT_MAX - 1),
    ] {
        let started = std::time::Instant::now();
        parse(text.as_bytes());
        let taken = started.elapsed();
        // A hundred times what it takes, for slow machines and unoptimised builds.
        let start: String = text.chars().take(24).collect();
        assert!(taken.as_secs() < 20, "{taken:?} for {} bytes of {start:?}", text.len());
    }
}
