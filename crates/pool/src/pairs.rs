//! Sets of names and values, shared by everybody who has the same: what a session has set, and what a server has reported.
//! Nearly all clients of an application have the same, so that comparing two is comparing two pointers.

use std::collections::HashSet;
use std::sync::Arc;

/// Names and values, in the order of the names.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub(crate) struct Pairs(Vec<(Box<str>, Box<str>)>);

/// Makes equal sets one, within a worker.
#[derive(Debug, Default)]
pub(crate) struct Interner(HashSet<Arc<Pairs>>);

impl Pairs {
    /// The value of `name`.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        let at = self.0.binary_search_by(|(n, _)| (**n).cmp(name)).ok()?;
        Some(&self.0[at].1)
    }

    /// Sets the value of `name`.
    pub(crate) fn set(&mut self, name: &str, value: &str) {
        match self.0.binary_search_by(|(n, _)| (**n).cmp(name)) {
            Ok(at) => self.0[at].1 = value.into(),
            Err(at) => self.0.insert(at, (name.into(), value.into())),
        }
    }

    /// Takes `name` out.
    pub(crate) fn remove(&mut self, name: &str) {
        if let Ok(at) = self.0.binary_search_by(|(n, _)| (**n).cmp(name)) {
            self.0.remove(at);
        }
    }

    /// All of them.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (&**name, &**value))
    }
}

impl Interner {
    /// The one that is equal to `pairs`.
    pub(crate) fn intern(&mut self, pairs: Pairs) -> Arc<Pairs> {
        if let Some(same) = self.0.get(&pairs) {
            return same.clone();
        }
        if self.0.len() >= 1_000 {
            self.0.retain(|known| Arc::strong_count(known) > 1);
        }
        let new = Arc::new(pairs);
        self.0.insert(new.clone());
        new
    }
}

/// Whether two are the same, quickly if they are one.
pub(crate) fn same(a: &Arc<Pairs>, b: &Arc<Pairs>) -> bool {
    Arc::ptr_eq(a, b) || a == b
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_are_in_order_and_equal_sets_become_one() {
        let mut interner = Interner::default();
        let mut a = Pairs::default();
        a.set("b", "2");
        a.set("a", "1");
        a.set("b", "3");
        let mut b = Pairs::default();
        b.set("a", "1");
        b.set("b", "3");
        b.set("c", "4");
        b.remove("c");
        assert_eq!(a.iter().collect::<Vec<_>>(), [("a", "1"), ("b", "3")]);
        assert_eq!((a.get("b"), a.get("x")), (Some("3"), None));
        assert!(Arc::ptr_eq(&interner.intern(a), &interner.intern(b)));
    }
}
