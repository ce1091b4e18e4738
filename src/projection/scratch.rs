//! A text that is made while a row passes.

use std::fmt;

/// Bytes kept without an allocation: longer than nearly every number, label or name that is made.
const INLINE_BYTES: usize = 128;

/// A short text on the stack; a long one is allocated.
#[derive(Clone)]
pub struct Scratch {
    inline: [u8; INLINE_BYTES],
    len: usize,
    /// Holds everything once it holds something.
    spilled: Vec<u8>,
}

impl Scratch {
    /// Empty.
    pub fn new() -> Scratch {
        Scratch { inline: [0; INLINE_BYTES], len: 0, spilled: Vec::new() }
    }

    /// Appends bytes.
    pub fn extend(&mut self, bytes: &[u8]) {
        if self.spilled.is_empty() {
            if let Some(room) = self.inline.get_mut(self.len..self.len + bytes.len()) {
                room.copy_from_slice(bytes);
                self.len += bytes.len();
                return;
            }
            self.spilled.extend_from_slice(self.inline.get(..self.len).unwrap_or_default());
        }
        self.spilled.extend_from_slice(bytes);
    }

    /// Appends a byte.
    pub fn push(&mut self, byte: u8) {
        self.extend(&[byte]);
    }

    /// What was appended.
    pub fn bytes(&self) -> &[u8] {
        if self.spilled.is_empty() { self.inline.get(..self.len).unwrap_or_default() } else { &self.spilled }
    }

    /// The same, to be changed in place.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        if self.spilled.is_empty() { self.inline.get_mut(..self.len).unwrap_or_default() } else { &mut self.spilled }
    }
}

impl fmt::Debug for Scratch {
    /// Never the text: it is a row's.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Scratch({} bytes)", self.bytes().len())
    }
}

impl fmt::Write for Scratch {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.extend(text.as_bytes());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_is_appended_is_there(parts in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..90), 0..6)) {
            let mut scratch = Scratch::new();
            parts.iter().for_each(|part| scratch.extend(part));
            prop_assert_eq!(scratch.bytes(), parts.concat());
        }
    }
}
