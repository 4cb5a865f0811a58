//! The suggestions that BuildKit's texts hold: the nearest name at most two edits away.
//!
//! Not [`conex_report::did_you_mean`]: its threshold is another one, and the texts of the checks
//! must be those that people know.

/// Most edits between a name and what is suggested for it.
const DISTANCE_MAX: usize = 2;

/// The nearest option; none if one of them is the word itself.
pub(crate) fn nearest<'o>(
    word: &str,
    options: impl IntoIterator<Item = &'o str>,
) -> Option<&'o str> {
    let word: Vec<char> = word.chars().collect();
    let mut best: Option<(usize, &str)> = None;
    for option in options {
        let letters: Vec<char> = option.chars().collect();
        if letters == word {
            return None;
        }
        // Lengths alone say that names of very different length are far apart.
        if letters.len().abs_diff(word.len()) > DISTANCE_MAX {
            continue;
        }
        let distance = distance(&word, &letters);
        if distance <= DISTANCE_MAX && best.is_none_or(|(known, _)| distance < known) {
            best = Some((distance, option));
        }
    }
    best.map(|(_, option)| option)
}

/// Levenshtein's distance.
fn distance(left: &[char], right: &[char]) -> usize {
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for (i, a) in left.iter().enumerate() {
        let mut diagonal = i;
        let mut before = i + 1;
        for (b, cell) in right.iter().zip(row.iter_mut().skip(1)) {
            let replaced = diagonal + usize::from(a != b);
            diagonal = *cell;
            before = replaced.min(*cell + 1).min(before + 1);
            *cell = before;
        }
        if let Some(first) = row.first_mut() {
            *first = i + 1;
        }
    }
    row.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::nearest;

    #[test]
    fn two_edits_are_near() {
        for (word, options, expected) in [
            ("PHAT", vec!["PATH"], Some("PATH")),
            ("foo", vec!["fooo", "fo"], Some("fooo")),
            ("foo", vec!["foo", "fooo"], None),
            ("abc", vec!["xyz"], None),
            ("version", vec!["versions", "vers"], Some("versions")),
        ] {
            assert_eq!(nearest(word, options), expected, "{word}");
        }
    }
}
