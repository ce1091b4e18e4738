//! Channel binding data of the type `tls-server-end-point` (RFC 5929): a hash of the server's certificate, made with the
//! hash function of the certificate's own signature.
//!
//! Of the certificate only one field is read, its `signatureAlgorithm`; whether the certificate can be trusted was decided
//! before. Every byte comes from outside, so the little DER reader below is total: it answers or says no.

use ring::digest::{self, Algorithm};

const SEQUENCE: u8 = 0x30;
const OBJECT_IDENTIFIER: u8 = 0x06;
const CONTEXT_0: u8 = 0xa0;

/// Signature algorithms by the content of their object identifier, with the hash to use. MD5 and SHA-1 are replaced by
/// SHA-256, as RFC 5929 demands.
const ALGORITHMS: &[(&[u8], Hash)] = &[
    // 1.2.840.113549.1.1: md5, sha1, sha256, sha384, sha512 with RSA.
    (&[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 4], Hash::Sha256),
    (&[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 5], Hash::Sha256),
    (&[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 11], Hash::Sha256),
    (&[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 12], Hash::Sha384),
    (&[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 13], Hash::Sha512),
    // 1.2.840.10045.4: ECDSA with sha1, sha256, sha384, sha512.
    (&[0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 1], Hash::Sha256),
    (&[0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 2], Hash::Sha256),
    (&[0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 3], Hash::Sha384),
    (&[0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 4], Hash::Sha512),
];

/// 1.2.840.113549.1.1.10: RSASSA-PSS, whose hash is a parameter.
const RSA_PSS: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 10];

/// 2.16.840.1.101.3.4.2: the hashes that the parameter can name. None named is SHA-1.
const HASHES: &[(&[u8], Hash)] = &[
    (&[0x60, 0x86, 0x48, 1, 0x65, 3, 4, 2, 1], Hash::Sha256),
    (&[0x60, 0x86, 0x48, 1, 0x65, 3, 4, 2, 2], Hash::Sha384),
    (&[0x60, 0x86, 0x48, 1, 0x65, 3, 4, 2, 3], Hash::Sha512),
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Hash {
    Sha256,
    Sha384,
    Sha512,
}

impl Hash {
    fn algorithm(self) -> &'static Algorithm {
        match self {
            Hash::Sha256 => &digest::SHA256,
            Hash::Sha384 => &digest::SHA384,
            Hash::Sha512 => &digest::SHA512,
        }
    }
}

/// The binding data for a certificate in DER, or nothing where the standard defines none (Ed25519, unknown algorithms).
pub fn server_end_point(certificate: &[u8]) -> Option<Vec<u8>> {
    let hash = signature_hash(certificate)?;
    Some(digest::digest(hash.algorithm(), certificate).as_ref().to_vec())
}

/// `Certificate ::= SEQUENCE { tbsCertificate, signatureAlgorithm SEQUENCE { OID, parameters }, signature }`
fn signature_hash(certificate: &[u8]) -> Option<Hash> {
    let (fields, _) = element(certificate, SEQUENCE)?;
    let (_, fields) = element(fields, SEQUENCE)?;
    let (algorithm, _) = element(fields, SEQUENCE)?;
    let (identifier, parameters) = element(algorithm, OBJECT_IDENTIFIER)?;
    if identifier == RSA_PSS { pss_hash(parameters) } else { look_up(ALGORITHMS, identifier) }
}

/// `RSASSA-PSS-params ::= SEQUENCE { [0] SEQUENCE { OID, … }, … }`, each field optional.
fn pss_hash(parameters: &[u8]) -> Option<Hash> {
    let (fields, _) = element(parameters, SEQUENCE)?;
    let Some((hash, _)) = element(fields, CONTEXT_0) else { return Some(Hash::Sha256) };
    let (hash, _) = element(hash, SEQUENCE)?;
    let (identifier, _) = element(hash, OBJECT_IDENTIFIER)?;
    look_up(HASHES, identifier)
}

fn look_up(table: &[(&[u8], Hash)], identifier: &[u8]) -> Option<Hash> {
    table.iter().find(|(known, _)| *known == identifier).map(|(_, hash)| *hash)
}

/// Content of the element with this tag at the start of `bytes`, and what follows it.
fn element(bytes: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let [found, rest @ ..] = bytes else { return None };
    if *found != tag {
        return None;
    }
    let (&first, rest) = rest.split_first()?;
    let (length, rest) = match first {
        0..=0x7f => (usize::from(first), rest),
        // A certificate is shorter than 16 MiB; the indefinite form is no DER.
        0x81..=0x83 => {
            let (digits, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
            (digits.iter().fold(0, |length, digit| length << 8 | usize::from(*digit)), rest)
        }
        _ => return None,
    };
    rest.split_at_checked(length)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn tlv(tag: u8, content: &[u8]) -> Vec<u8> {
        let length = content.len();
        let mut out = vec![tag];
        match length {
            0..=0x7f => out.push(length as u8),
            _ => out.extend([0x82, (length >> 8) as u8, length as u8]),
        }
        out.extend_from_slice(content);
        out
    }

    /// A certificate in form alone: a long body and this algorithm.
    fn certificate(identifier: &[u8], parameters: &[u8]) -> Vec<u8> {
        let algorithm = [tlv(OBJECT_IDENTIFIER, identifier), parameters.to_vec()].concat();
        let fields = [tlv(SEQUENCE, &[7; 300]), tlv(SEQUENCE, &algorithm), tlv(3, &[0; 20])].concat();
        tlv(SEQUENCE, &fields)
    }

    #[test]
    fn the_hash_follows_the_signature_of_the_certificate() {
        for (identifier, hash) in ALGORITHMS {
            let certificate = certificate(identifier, &[5, 0]);
            assert_eq!(signature_hash(&certificate), Some(*hash));
            let length = server_end_point(&certificate).map(|data| data.len());
            assert_eq!(length, Some(hash.algorithm().output_len()));
        }
    }

    #[test]
    fn the_hash_of_pss_is_its_parameter_and_sha_1_is_replaced() {
        for (identifier, hash) in HASHES {
            let named = tlv(CONTEXT_0, &tlv(SEQUENCE, &tlv(OBJECT_IDENTIFIER, identifier)));
            assert_eq!(signature_hash(&certificate(RSA_PSS, &tlv(SEQUENCE, &named))), Some(*hash));
        }
        assert_eq!(signature_hash(&certificate(RSA_PSS, &tlv(SEQUENCE, &[]))), Some(Hash::Sha256));
    }

    #[test]
    fn without_a_hash_in_the_algorithm_there_is_no_binding() {
        // 1.3.101.112, Ed25519.
        assert_eq!(server_end_point(&certificate(&[0x2b, 0x65, 0x70], &[])), None);
        assert_eq!(server_end_point(&[]), None);
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_reader_panic(
            cut in 0_usize..400, at in 0_usize..400, byte in any::<u8>(), random in proptest::collection::vec(any::<u8>(), 0..40)
        ) {
            let mut bytes = certificate(RSA_PSS, &tlv(SEQUENCE, &[]));
            bytes.truncate(cut);
            if let Some(place) = bytes.get_mut(at) {
                *place = byte;
            }
            drop(server_end_point(&bytes));
            drop(server_end_point(&random));
        }
    }
}
