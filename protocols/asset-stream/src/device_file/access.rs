//! The key `access_level` of a variable.

use crate::document::{FromNode, Node};

/// Whether commands may write a variable.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Access {
    /// They may not.
    #[default]
    ReadOnly,
    /// They may.
    ReadWrite,
}

impl FromNode for Access {
    fn from_node(node: &Node<'_>) -> Result<Self, String> {
        node.one_of([("r", Self::ReadOnly), ("ro", Self::ReadOnly), ("rw", Self::ReadWrite)])
    }
}

#[cfg(test)]
mod tests {
    use super::Access;
    use crate::document::{Document, Environment, Problems};

    #[test]
    fn the_words_are_r_ro_and_rw() {
        let (problems, environment) = (Problems::new(), Environment::empty());
        let document = Document::parse("d.yaml", b"{a: r, b: ro, c: rw, d: w}", &problems).expect("valid YAML");
        let mut section = document.root(&environment, &problems);
        let read: Vec<Option<Access>> = ["a", "b", "c", "d", "e"].into_iter().map(|key| section.optional(key)).collect();
        assert_eq!(read, [Some(Access::ReadOnly), Some(Access::ReadOnly), Some(Access::ReadWrite), None, None]);
        let problems: Vec<String> = problems.into_vec().iter().map(ToString::to_string).collect();
        assert!(matches!(&problems[..], [one] if one.contains("expected `r`, `ro` or `rw`, found `w`")), "{problems:?}");
    }
}
