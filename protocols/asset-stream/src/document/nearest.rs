//! What somebody probably meant.

/// The known word that the written one was probably meant to be, whatever the case of its letters.
pub fn nearest<'k>(written: &str, known: impl IntoIterator<Item = &'k str>) -> Option<&'k str> {
    if written.len() > 64 {
        return None;
    }
    let written = written.to_lowercase();
    let distance = |word: &&str| strsim::osa_distance(&written, &word.to_lowercase());
    let (distance, word) = known.into_iter().map(|word| (distance(&word), word)).min_by_key(|(distance, _)| *distance)?;
    let length = word.chars().count();
    (distance <= (length / 3).clamp(1, 3) && distance * 2 <= length).then_some(word)
}
