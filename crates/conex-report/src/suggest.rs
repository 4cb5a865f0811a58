//! "Did you mean": the nearest of a few known words.

/// Returns the candidate nearest to `word`, if one is near enough to be a typing mistake: at most
/// a third of the word's letters differ (Levenshtein distance, ASCII case ignored), one at least.
pub fn did_you_mean<'c>(
    word: &str,
    candidates: impl IntoIterator<Item = &'c str>,
) -> Option<&'c str> {
    let word = word.to_ascii_lowercase();
    let allowed = (word.chars().count() / 3).max(1);
    candidates
        .into_iter()
        .map(|candidate| (distance(&word, &candidate.to_ascii_lowercase()), candidate))
        .filter(|(distance, _)| *distance <= allowed)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// Counts the insertions, deletions, replacements and swaps of neighbours between two words
/// (Damerau's distance, optimal string alignment).
fn distance(left: &str, right: &str) -> usize {
    let left: Vec<char> = left.chars().collect();
    let right: Vec<char> = right.chars().collect();
    let mut before_last: Vec<usize> = vec![0; right.len() + 1];
    let mut last: Vec<usize> = (0..=right.len()).collect();
    for i in 0..left.len() {
        let mut row = vec![i + 1; right.len() + 1];
        for j in 0..right.len() {
            let replace = last[j] + usize::from(left[i] != right[j]);
            row[j + 1] = replace.min(last[j + 1] + 1).min(row[j] + 1);
            if i > 0 && j > 0 && left[i] == right[j - 1] && left[i - 1] == right[j] {
                row[j + 1] = row[j + 1].min(before_last[j - 1] + 1);
            }
        }
        before_last = last;
        last = row;
    }
    last[right.len()]
}

#[cfg(test)]
mod tests {
    use super::did_you_mean;

    #[test]
    fn nearest_word_within_a_third_of_the_letters() {
        let instructions = ["FROM", "RUN", "COPY", "WORKDIR", "ENTRYPOINT"];
        for (typed, meant) in [
            ("FORM", Some("FROM")),
            ("ENTRYPIONT", Some("ENTRYPOINT")),
            ("wrokdir", Some("WORKDIR")),
            ("CPOY", Some("COPY")),
            ("BANANA", None),
            ("", None),
        ] {
            assert_eq!(did_you_mean(typed, instructions), meant, "{typed}");
        }
    }
}
