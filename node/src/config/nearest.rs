//! The word that a misspelt one was most likely meant to be.

/// The candidate with the fewest edits from `word`, where so few that it may well have been meant.
pub(super) fn nearest<'a>(
    word: &str,
    candidates: impl IntoIterator<Item = &'a str>,
) -> Option<&'a str> {
    // Whole sentences pasted as keys are no typing errors, and the distance takes quadratic time.
    if word.len() > 64 {
        return None;
    }
    let word = fold(word);
    let limit = (word.len() / 3).clamp(1, 4);
    let ranked = candidates
        .into_iter()
        .map(|c| (distance(&word, &fold(c)), c));
    ranked.filter(|(d, _)| *d <= limit).min().map(|(_, c)| c)
}

/// Case, dashes and underscores do not count.
fn fold(word: &str) -> Vec<char> {
    word.chars()
        .map(|c| {
            if c == '-' {
                '_'
            } else {
                c.to_ascii_lowercase()
            }
        })
        .collect()
}

/// Insertions, deletions, replacements and swaps of neighbours (optimal string alignment).
fn distance(a: &[char], b: &[char]) -> usize {
    let mut before: Vec<usize> = Vec::new();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for i in 1..=a.len() {
        let mut next = vec![i];
        for j in 1..=b.len() {
            let replace = row[j - 1] + usize::from(a[i - 1] != b[j - 1]);
            let mut least = replace.min(row[j] + 1).min(next[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                least = least.min(before[j - 2] + 1);
            }
            next.push(least);
        }
        before = std::mem::replace(&mut row, next);
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_swapped_or_missing_letter_still_finds_its_word() {
        let words = ["bind", "pool", "backends", "limits"];
        assert_eq!(nearest("bnid", words), Some("bind"));
        assert_eq!(nearest("backend", words), Some("backends"));
        assert_eq!(nearest("Limit", words), Some("limits"));
    }

    #[test]
    fn a_word_that_resembles_none_finds_none() {
        assert_eq!(nearest("maxconn", ["bind", "pool", "limits"]), None);
        assert_eq!(nearest(&"x".repeat(1000), ["bind"]), None);
    }

    #[test]
    fn distances_are_counted_in_edits() {
        let d = |a: &str, b: &str| distance(&fold(a), &fold(b));
        assert_eq!(d("", "abc"), 3);
        assert_eq!(d("kitten", "sitting"), 3);
        assert_eq!(d("round_robin", "round-robin"), 0);
        assert_eq!(d("ab", "ba"), 1);
    }
}
