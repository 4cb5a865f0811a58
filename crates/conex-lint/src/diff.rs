//! What changed between two texts, as `diff -u` shows it.

use std::fmt::Write as _;

/// Lines of context around a change.
const CONTEXT: usize = 3;

/// Most pairs of lines compared; above it the changed part is shown as replaced whole.
const PAIR_COUNT_MAX: usize = 4_000_000;

/// The unified difference of two texts; empty if they are the same.
pub fn unified(name: &str, before: &str, after: &str) -> String {
    if before == after {
        return String::new();
    }
    let old: Vec<&str> = before.split_inclusive('\n').collect();
    let new: Vec<&str> = after.split_inclusive('\n').collect();
    let changes = changes(&old, &new);
    let mut out = format!("--- a/{name}\n+++ b/{name}\n");
    let mut at = 0;
    while at < changes.len() {
        // A hunk: changes with at most two contexts between them.
        let mut last = at;
        while let (Some(here), Some(next)) = (changes.get(last), changes.get(last + 1)) {
            if next.old.0 - here.old.1 > 2 * CONTEXT {
                break;
            }
            last += 1;
        }
        let hunk = changes.get(at..=last).unwrap_or_default();
        push_hunk(&mut out, &old, &new, hunk);
        at = last + 1;
    }
    out
}

/// Lines `old` were replaced by lines `new`; each is start and end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Change {
    old: (usize, usize),
    new: (usize, usize),
}

fn push_hunk(out: &mut String, old: &[&str], new: &[&str], hunk: &[Change]) {
    let (Some(first), Some(last)) = (hunk.first(), hunk.last()) else { return };
    let lead = first.old.0.min(CONTEXT);
    let (old_start, new_start) = (first.old.0 - lead, first.new.0 - lead);
    let trail = (old.len() - last.old.1).min(CONTEXT);
    let (old_end, new_end) = (last.old.1 + trail, last.new.1 + trail);
    let range = |start: usize, end: usize| match end - start {
        0 => format!("{start},0"),
        1 => format!("{}", start + 1),
        count => format!("{},{count}", start + 1),
    };
    let (olds, news) = (range(old_start, old_end), range(new_start, new_end));
    let _ = writeln!(out, "@@ -{olds} +{news} @@"); // a String takes all
    let mut at = old_start;
    for change in hunk {
        push_lines(out, ' ', old.get(at..change.old.0));
        push_lines(out, '-', old.get(change.old.0..change.old.1));
        push_lines(out, '+', new.get(change.new.0..change.new.1));
        at = change.old.1;
    }
    push_lines(out, ' ', old.get(at..old_end));
}

fn push_lines(out: &mut String, sign: char, lines: Option<&[&str]>) {
    for line in lines.unwrap_or_default() {
        out.push(sign);
        out.push_str(line);
        if !line.ends_with('\n') {
            out.push_str("\n\\ No newline at end of file\n");
        }
    }
}

/// The changes, by the longest common subsequence of what is not the same at both ends.
fn changes(old: &[&str], new: &[&str]) -> Vec<Change> {
    let head = old.iter().zip(new).take_while(|(a, b)| a == b).count();
    let tail = old
        .iter()
        .rev()
        .zip(new.iter().rev())
        .take(old.len().min(new.len()) - head)
        .take_while(|(a, b)| a == b)
        .count();
    let a = old.get(head..old.len() - tail).unwrap_or_default();
    let b = new.get(head..new.len() - tail).unwrap_or_default();
    let whole = Change { old: (head, head + a.len()), new: (head, head + b.len()) };
    if a.len().saturating_mul(b.len()) > PAIR_COUNT_MAX {
        return vec![whole];
    }
    // length[i][j]: the common subsequence of a[i..] and b[j..].
    let width = b.len() + 1;
    let mut length = vec![0_u32; (a.len() + 1) * width];
    for i in (0..a.len()).rev() {
        for j in (0..b.len()).rev() {
            length[i * width + j] = if a[i] == b[j] {
                length[(i + 1) * width + j + 1] + 1
            } else {
                length[(i + 1) * width + j].max(length[i * width + j + 1])
            };
        }
    }
    let mut changes: Vec<Change> = Vec::new();
    let (mut i, mut j) = (0, 0);
    while i < a.len() || j < b.len() {
        let (start_i, start_j) = (i, j);
        while i < a.len() || j < b.len() {
            if i < a.len() && j < b.len() && a[i] == b[j] {
                break;
            }
            let down = if i < a.len() { length[(i + 1) * width + j] } else { 0 };
            let right = if j < b.len() { length[i * width + j + 1] } else { 0 };
            if j >= b.len() || (i < a.len() && down >= right) {
                i += 1;
            } else {
                j += 1;
            }
        }
        if (i, j) != (start_i, start_j) {
            let old = (head + start_i, head + i);
            changes.push(Change { old, new: (head + start_j, head + j) });
        }
        while i < a.len() && j < b.len() && a[i] == b[j] {
            i += 1;
            j += 1;
        }
    }
    changes
}

#[cfg(test)]
mod tests {
    use super::unified;

    #[test]
    fn changes_are_shown_with_what_stands_around_them() {
        assert_eq!(unified("x", "a\n", "a\n"), "");
        let before = "a\nb\nc\nd\ne\nf\ng\nh\ni\nj\nk\n";
        let after = "a\nB\nc\nd\ne\nf\ng\nh\ni\nj\nK\nl\n";
        insta::assert_snapshot!(unified("x", before, after), @r"
        --- a/x
        +++ b/x
        @@ -1,5 +1,5 @@
         a
        -b
        +B
         c
         d
         e
        @@ -8,4 +8,5 @@
         h
         i
         j
        -k
        +K
        +l
        ");
        insta::assert_snapshot!(unified("x", "a", "a\nb\n"), @r"
        --- a/x
        +++ b/x
        @@ -1 +1,2 @@
        -a
        \ No newline at end of file
        +a
        +b
        ");
    }
}
