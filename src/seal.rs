//! Sealing: rows that nobody else may read, and that must not be lost.
//!
//! A sealed text is AES-256-GCM under a random 96-bit nonce. What stands beside it in the record (pipeline, contract, major,
//! position) is authenticated with it, so a sealed row cannot be passed off as another one's.
//!
//! ```text
//!  format (1 byte) │ key id (8 bytes) │ nonce (12 bytes) │ cipher text │ tag (16 bytes)
//! ```
//!
//! The configured key is used for nothing itself: one key is derived from it for sealing, one for masks of keys, one for the
//! fingerprint (HKDF with SHA-256). The caller brings the randomness. With random nonces one key is good for 2^32 rows.

use std::fmt;

use ring::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use ring::{hkdf, hmac};

use crate::error::{Code, Error, Result};
use crate::position::Position;

/// Bytes of a nonce.
pub const NONCE_BYTES: usize = 12;

/// Bytes of the configured key.
pub const KEY_BYTES: usize = 32;

const FORMAT: u8 = 1;
const ID_BYTES: usize = 8;
const TAG_BYTES: usize = 16;

/// Gives a fresh nonce with every call.
pub type NonceSource = Box<dyn FnMut() -> Result<[u8; NONCE_BYTES]> + Send>;

/// What a sealed row belongs to.
#[derive(Clone, Copy, Debug)]
pub struct Context<'a> {
    /// The pipeline's name.
    pub pipeline: &'a str,
    /// The contract's name.
    pub contract: &'a str,
    /// Its major.
    pub major: u32,
    /// The record's position.
    pub position: Position,
}

impl Context<'_> {
    fn bytes(&self) -> Vec<u8> {
        // No name holds a zero byte, so no two contexts read alike.
        format!("{}\0{}\0{}\0{}", self.pipeline, self.contract, self.major, self.position).into_bytes()
    }
}

/// The key of a pipeline.
pub struct SealKey {
    aead: LessSafeKey,
    mask: hmac::Key,
    id: [u8; ID_BYTES],
}

impl fmt::Debug for SealKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SealKey({})", self.fingerprint())
    }
}

impl SealKey {
    /// The key of a key file: 64 hexadecimal digits, with blanks or a line end around them.
    pub fn parse(text: &str) -> Result<SealKey> {
        let digits = text.trim();
        let byte = |at: usize| digits.get(at * 2..at * 2 + 2).and_then(|pair| u8::from_str_radix(pair, 16).ok());
        let legal = digits.len() == KEY_BYTES * 2 && digits.bytes().all(|digit| digit.is_ascii_hexdigit());
        let bytes: Option<Vec<u8>> = (0..KEY_BYTES).map(byte).collect();
        match bytes.filter(|_| legal).and_then(|bytes| SealKey::derive(&bytes)) {
            Some(key) => Ok(key),
            None => Err(Error::definite(
                Code::SealKeyInvalid,
                format!("the key for sealing must be {} hexadecimal digits", KEY_BYTES * 2),
            )
            .hint("`openssl rand -hex 32` makes one; `gimbal init` writes one for a new project")),
        }
    }

    fn derive(bytes: &[u8]) -> Option<SealKey> {
        let root = hkdf::Salt::new(hkdf::HKDF_SHA256, b"gimbal").extract(bytes);
        let seal = UnboundKey::from(root.expand(&[b"seal"], &AES_256_GCM).ok()?);
        let mask = hmac::Key::from(root.expand(&[b"mask"], hmac::HMAC_SHA256).ok()?);
        let mut id = [0; ID_BYTES];
        let name = hmac::Key::from(root.expand(&[b"fingerprint"], hmac::HMAC_SHA256).ok()?);
        id.copy_from_slice(hmac::sign(&name, b"").as_ref().get(..ID_BYTES)?);
        Some(SealKey { aead: LessSafeKey::new(seal), mask, id })
    }

    /// Names the key without telling anything of it: 16 hexadecimal digits.
    pub fn fingerprint(&self) -> String {
        let mut out = Vec::new();
        hex(&self.id, &mut out);
        String::from_utf8_lossy(&out).into_owned()
    }

    /// A record's key as a parcel shows it: equal for equal keys, and nothing to read. 64 hexadecimal digits.
    pub fn mask(&self, key: &[u8]) -> String {
        let mut out = Vec::new();
        hex(hmac::sign(&self.mask, key).as_ref(), &mut out);
        String::from_utf8_lossy(&out).into_owned()
    }

    /// Opens what [`Sealer::seal`] made. Fails if the key is another one, or if anything was changed.
    pub fn open(&self, context: &Context<'_>, sealed: &[u8]) -> Result<Vec<u8>> {
        let broken = || {
            let what = format!("the sealed row of `{}` at {} cannot be opened", context.contract, context.position);
            Error::definite(Code::SealBroken, what).hint("the record was changed, or belongs to another pipeline")
        };
        let (Some([FORMAT]), Some(id), Some(nonce), Some(text)) = (
            sealed.get(..1),
            sealed.get(1..1 + ID_BYTES),
            sealed.get(1 + ID_BYTES..1 + ID_BYTES + NONCE_BYTES),
            sealed.get(1 + ID_BYTES + NONCE_BYTES..),
        ) else {
            return Err(broken());
        };
        if id != self.id {
            let mut other = Vec::new();
            hex(id, &mut other);
            return Err(differs(&String::from_utf8_lossy(&other), Some(&self.fingerprint())));
        }
        let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| broken())?;
        let mut text = text.to_vec();
        let len = self.aead.open_in_place(nonce, Aad::from(context.bytes()), &mut text).map_err(|_| broken())?.len();
        text.truncate(len);
        Ok(text)
    }
}

/// Rows were sealed with one key and another one, or none, is configured.
pub fn differs(sealed_with: &str, configured: Option<&str>) -> Error {
    let configured = match configured {
        Some(fingerprint) => format!("the configured key is `{fingerprint}`"),
        None => "none is configured".to_owned(),
    };
    Error::definite(Code::SealKeyDiffers, format!("rows were sealed with key `{sealed_with}`, {configured}"))
        .hint("bring back the key file that `keys: {seal: …}` named when they were sealed")
}

/// Seals rows of one pipeline.
pub struct Sealer {
    key: SealKey,
    pipeline: String,
    nonces: NonceSource,
    used: bool,
}

impl Sealer {
    /// A sealer that takes its nonces from the caller's source of randomness.
    pub fn new(key: SealKey, pipeline: &str, nonces: NonceSource) -> Sealer {
        Sealer { key, pipeline: pipeline.to_owned(), nonces, used: false }
    }

    /// The key.
    pub fn key(&self) -> &SealKey {
        &self.key
    }

    /// True once a row was sealed.
    pub fn used(&self) -> bool {
        self.used
    }

    /// Seals a row of a contract at a position.
    pub fn seal(&mut self, contract: &str, major: u32, position: Position, text: &[u8]) -> Result<Vec<u8>> {
        let nonce = (self.nonces)()?;
        let context = Context { pipeline: &self.pipeline, contract, major, position };
        let mut sealed = Vec::with_capacity(1 + ID_BYTES + NONCE_BYTES + text.len() + TAG_BYTES);
        sealed.push(FORMAT);
        sealed.extend_from_slice(&self.key.id);
        sealed.extend_from_slice(&nonce);
        let head = sealed.len();
        sealed.extend_from_slice(text);
        let aad = Aad::from(context.bytes());
        let body = sealed.get_mut(head..).unwrap_or_default();
        let tag = self
            .key
            .aead
            .seal_in_place_separate_tag(Nonce::assume_unique_for_key(nonce), aad, body)
            .map_err(|_| Error::definite(Code::Internal, "a row is too large to be sealed"))?;
        sealed.extend_from_slice(tag.as_ref());
        self.used = true;
        Ok(sealed)
    }
}

fn hex(bytes: &[u8], out: &mut Vec<u8>) {
    for byte in bytes {
        for digit in [byte >> 4, byte & 15] {
            out.push(if digit < 10 { b'0' + digit } else { b'a' + digit - 10 });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lsn::Lsn;

    const KEY: &str = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f\n";

    fn at(ordinal: u32) -> Position {
        Position { epoch: 0, commit_lsn: Lsn(16), ordinal }
    }

    fn sealer(text: &str) -> Sealer {
        let mut next = 0u8;
        let nonces = move || {
            next += 1;
            Ok([next; NONCE_BYTES])
        };
        Sealer::new(SealKey::parse(text).unwrap(), "shop", Box::new(nonces))
    }

    fn context(contract: &str, major: u32, ordinal: u32) -> Context<'_> {
        Context { pipeline: "shop", contract, major, position: at(ordinal) }
    }

    #[test]
    fn a_row_opens_as_it_was_sealed_and_never_looks_the_same_twice() {
        let mut sealer = sealer(KEY);
        let first = sealer.seal("orders", 1, at(1), b"canary").unwrap();
        let second = sealer.seal("orders", 1, at(1), b"canary").unwrap();
        assert_ne!(first[21..], second[21..]);
        assert!(sealer.used() && !first.windows(6).any(|window| window == b"canary"));
        assert_eq!(sealer.key().open(&context("orders", 1, 1), &first).unwrap(), b"canary");
        assert_eq!(sealer.key().open(&context("orders", 1, 1), &second).unwrap(), b"canary");
        let empty = sealer.seal("orders", 1, at(1), b"").unwrap();
        assert_eq!(sealer.key().open(&context("orders", 1, 1), &empty).unwrap(), b"");
    }

    #[test]
    fn a_row_opens_under_no_other_contract_version_or_position_and_with_no_byte_changed() {
        let mut sealer = sealer(KEY);
        let sealed = sealer.seal("orders", 1, at(1), b"canary").unwrap();
        for context in [context("order", 1, 1), context("orders", 2, 1), context("orders", 1, 2)] {
            assert_eq!(sealer.key().open(&context, &sealed).unwrap_err().code(), Code::SealBroken);
        }
        let other = Context { pipeline: "other", ..context("orders", 1, 1) };
        assert_eq!(sealer.key().open(&other, &sealed).unwrap_err().code(), Code::SealBroken);
        for at in 0..sealed.len() {
            let mut changed = sealed.clone();
            changed[at] ^= 1;
            assert!(sealer.key().open(&context("orders", 1, 1), &changed).is_err(), "byte {at}");
            assert!(sealer.key().open(&context("orders", 1, 1), &sealed[..at]).is_err(), "cut at {at}");
        }
    }

    #[test]
    fn another_key_is_told_from_a_damaged_row() {
        let (mut one, other) = (sealer(KEY), sealer(&KEY.replace("00", "ff")));
        assert_ne!(one.key().fingerprint(), other.key().fingerprint());
        assert_ne!(one.key().mask(b"1"), other.key().mask(b"1"));
        assert_eq!(one.key().mask(b"1").len(), 64);
        let sealed = one.seal("orders", 1, at(1), b"canary").unwrap();
        let error = other.key().open(&context("orders", 1, 1), &sealed).unwrap_err();
        assert_eq!(error.code(), Code::SealKeyDiffers);
        assert!(error.diagnosis().contains(&one.key().fingerprint()), "{error}");
    }

    #[test]
    fn what_is_no_key_is_refused_and_not_shown() {
        for text in ["", "00", "zz0102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f", &KEY.repeat(2)] {
            let error = SealKey::parse(text).unwrap_err();
            assert_eq!(error.code(), Code::SealKeyInvalid);
            assert!(text.trim().is_empty() || !error.to_string().contains(text.trim()) || text == "00");
        }
    }
}
