//! A set of members of one claim.

use std::fmt;

/// A fixed number of bits, one per member of a claim: bit `i` stands for the member with index `i`.
///
/// The default has no bits. It stands for no members of a claim of any length, and allocates nothing.
#[derive(Clone, PartialEq, Eq, Hash, Default)]
pub struct Bits {
    len: u32,
    words: Vec<u64>,
}

impl Bits {
    /// `len` unset bits.
    pub fn new(len: u32) -> Self {
        Self { len, words: vec![0; len.div_ceil(64) as usize] }
    }

    /// `len` set bits.
    pub fn full(len: u32) -> Self {
        Self::new(len).complement()
    }

    /// `len` bits of which those in `set` are set. Indices beyond `len` are ignored.
    pub fn from_indices(len: u32, set: impl IntoIterator<Item = u32>) -> Self {
        let mut bits = Self::new(len);
        for index in set {
            bits.insert(index);
        }
        bits
    }

    /// How many bits there are, set or not.
    pub const fn len(&self) -> u32 {
        self.len
    }

    /// Whether no bit is set.
    pub fn is_empty(&self) -> bool {
        self.words.iter().all(|word| *word == 0)
    }

    /// Whether every bit is set.
    pub fn is_full(&self) -> bool {
        self.count() == self.len
    }

    /// How many bits are set.
    pub fn count(&self) -> u32 {
        self.words.iter().map(|word| word.count_ones()).sum()
    }

    /// Whether bit `index` is set.
    pub fn contains(&self, index: u32) -> bool {
        index < self.len && self.words[index as usize / 64] >> (index % 64) & 1 == 1
    }

    /// Sets bit `index`; says whether it was unset before. Beyond the length nothing happens.
    pub fn insert(&mut self, index: u32) -> bool {
        let fresh = index < self.len && !self.contains(index);
        if fresh {
            self.words[index as usize / 64] |= 1 << (index % 64);
        }
        fresh
    }

    /// The indices of the set bits, ascending.
    pub fn iter(&self) -> impl Iterator<Item = u32> + '_ {
        (0..self.len).filter(|index| self.contains(*index))
    }

    /// Bits set in either. Both must have the same length, unless one has no bits at all: those count as unset.
    #[must_use]
    pub fn union(&self, other: &Self) -> Self {
        self.zip(other, |a, b| a | b)
    }

    /// Bits set in both.
    #[must_use]
    pub fn intersection(&self, other: &Self) -> Self {
        self.zip(other, |a, b| a & b)
    }

    /// Bits set here and not in `other`.
    #[must_use]
    pub fn difference(&self, other: &Self) -> Self {
        self.zip(other, |a, b| a & !b)
    }

    /// Bits not set here.
    #[must_use]
    pub fn complement(&self) -> Self {
        let mut bits = Self { len: self.len, words: self.words.iter().map(|word| !word).collect() };
        if let Some(last) = bits.words.last_mut()
            && !self.len.is_multiple_of(64)
        {
            *last &= (1 << (self.len % 64)) - 1;
        }
        bits
    }

    /// Bit `i` as bit `i % 8` (least significant first) of byte `i / 8`.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes: Vec<u8> = self.words.iter().flat_map(|word| word.to_le_bytes()).collect();
        bytes.truncate(self.len.div_ceil(8) as usize);
        bytes
    }

    /// Reads what [`to_bytes`](Self::to_bytes) wrote. Missing bytes count as unset, bits beyond `len` are ignored.
    pub fn from_bytes(len: u32, bytes: &[u8]) -> Self {
        let set = (0..len).filter(|index| bytes.get(*index as usize / 8).is_some_and(|byte| byte >> (index % 8) & 1 == 1));
        Self::from_indices(len, set)
    }

    fn zip(&self, other: &Self, combine: impl Fn(u64, u64) -> u64) -> Self {
        debug_assert!(self.len == other.len || self.len == 0 || other.len == 0, "bits of different claims: {self:?}, {other:?}");
        let word = |bits: &Self, at: usize| bits.words.get(at).copied().unwrap_or(0);
        let words = (0..self.words.len().max(other.words.len())).map(|at| combine(word(self, at), word(other, at)));
        Self { len: self.len.max(other.len), words: words.collect() }
    }
}

impl fmt::Debug for Bits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Bits({}/", self.len)?;
        f.debug_set().entries(self.iter()).finish()?;
        f.write_str(")")
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn behaves_like_a_set(len in 0_u32..300, a in prop::collection::btree_set(0_u32..300, 0..80), b in prop::collection::btree_set(0_u32..300, 0..80)) {
            let within = |set: &BTreeSet<u32>| set.iter().copied().filter(|index| *index < len).collect::<BTreeSet<_>>();
            let (x, y) = (Bits::from_indices(len, a.iter().copied()), Bits::from_indices(len, b.iter().copied()));
            let (a, b) = (within(&a), within(&b));
            let read = |bits: &Bits| bits.iter().collect::<BTreeSet<_>>();
            prop_assert_eq!(read(&x.union(&y)), a.union(&b).copied().collect::<BTreeSet<_>>());
            prop_assert_eq!(read(&x.intersection(&y)), a.intersection(&b).copied().collect::<BTreeSet<_>>());
            prop_assert_eq!(read(&x.difference(&y)), a.difference(&b).copied().collect::<BTreeSet<_>>());
            prop_assert_eq!(x.count() + x.complement().count(), len);
            prop_assert_eq!((x.is_empty(), x.is_full()), (a.is_empty(), a.len() == len as usize));
            prop_assert!(x.union(&x.complement()).is_full());
            let none = Bits::default();
            prop_assert_eq!((&x.union(&none), &none.union(&x), &x.difference(&none)), (&x, &x, &x));
            prop_assert!(x.intersection(&none).is_empty() && none.difference(&x).is_empty());
            prop_assert_eq!(Bits::from_bytes(len, &x.to_bytes()), x);
        }
    }
}
