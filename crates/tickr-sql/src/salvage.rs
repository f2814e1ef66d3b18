//! Reading a row as far as it can be read.

use std::fmt;
use std::num::NonZeroU16;

use tickr_core::{Priority, StoredMessage};

/// A message as its row says, and which column of the row cannot be read, if one cannot.
///
/// One row that was repaired by hand or written by another version must not fail the whole answer it is part of, so readers of
/// messages give what they could read and leave the decision to the caller.
#[derive(Clone, Debug)]
pub struct Salvaged {
    /// What could be read; the default for each column that could not.
    pub message: StoredMessage,
    /// The first column that cannot be read, and why.
    pub unreadable: Option<String>,
}

/// Collects the first fault of a row while its columns are read.
#[derive(Debug, Default)]
pub struct Salvage(Option<String>);

impl Salvage {
    /// Gives a value that was read, or the default and notes the column.
    pub fn take<T: Default, E: fmt::Display>(&mut self, column: &str, read: Result<T, E>) -> T {
        read.unwrap_or_else(|why| {
            self.note(column, why);
            T::default()
        })
    }

    /// Notes that a column cannot be read. `why` must not contain its value.
    pub fn note(&mut self, column: &str, why: impl fmt::Display) {
        self.0.get_or_insert_with(|| format!("{column}: {why}"));
    }

    /// The priority that a stored number stands for.
    pub fn priority(&mut self, number: i64) -> Priority {
        let known = i16::try_from(number).ok().and_then(Priority::from_i16);
        known.unwrap_or_else(|| {
            self.note("priority", format_args!("{number} is none of 1, 2, 3"));
            Priority::Normal
        })
    }

    /// The message's own maximum of attempts.
    pub fn max_attempts(&mut self, number: Option<i64>) -> Option<NonZeroU16> {
        let number = number?;
        let known = u16::try_from(number).ok().and_then(NonZeroU16::new);
        if known.is_none() {
            self.note("max_attempts", format_args!("{number} is not between 1 and {}", u16::MAX));
        }
        known
    }

    /// A number of attempts or crashes.
    pub fn count(&mut self, column: &str, number: i64) -> u16 {
        u16::try_from(number).unwrap_or_else(|_| {
            self.note(column, format_args!("{number} is not between 0 and {}", u16::MAX));
            if number < 0 { 0 } else { u16::MAX }
        })
    }

    /// What was noted.
    pub fn finish(self) -> Option<String> {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_out_of_range_are_noted_and_the_first_fault_stays() {
        let mut salvage = Salvage::default();
        assert_eq!(
            (salvage.priority(3), salvage.max_attempts(Some(5)), salvage.count("attempt", 65_535)),
            (Priority::Low, NonZeroU16::new(5), u16::MAX)
        );
        assert_eq!(salvage.max_attempts(None), None);
        assert_eq!((salvage.priority(9), salvage.max_attempts(Some(0)), salvage.count("crashes", -1)), (Priority::Normal, None, 0));
        assert_eq!(salvage.finish().as_deref(), Some("priority: 9 is none of 1, 2, 3"));
    }
}
