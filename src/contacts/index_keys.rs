//! Keys of the index database. All containers of one set share a prefix and differ in the last two bytes, the high bits
//! of their rows; byte order of keys is the order in which they are written and read.
//!
//! ```text
//! 'P' attribute high              rows with a value
//! 'D' attribute digit high        rows whose value has the binary digit
//! 'V' attribute value 00 high     rows with the value; no value holds a 00
//! 'V' attribute value[..400] 01 hash 00 high    … longer than 400 bytes: the container carries the text
//! 'S' channel high                rows whose address another row has too
//! 'I' import high                 rows that an import has seen
//! 'C' import number high          rows whose consent an import changed, by the number of the change
//! ```
//! Numbers are big endian.

use crate::ids::{AttributeId, Channel, ImportId};

/// Bytes of a value that stand in its key as they are; LMDB's keys have 511 at most.
pub(crate) const VALUE_BYTES: usize = 400;
const HASH_BYTES: usize = 16;
const LONG_KEY_BYTES: usize = 3 + VALUE_BYTES + 1 + HASH_BYTES + 1 + 2;

/// Prefix of a set: everything but the high bits.
pub(crate) fn present(attribute: AttributeId, out: &mut Vec<u8>) {
    out.clear();
    out.push(b'P');
    out.extend_from_slice(&attribute.0.to_be_bytes());
}

pub(crate) fn digit(attribute: AttributeId, digit: u8, out: &mut Vec<u8>) {
    out.clear();
    out.push(b'D');
    out.extend_from_slice(&attribute.0.to_be_bytes());
    out.push(digit);
}

pub(crate) fn is_long(value: &str) -> bool {
    value.len() > VALUE_BYTES
}

pub(crate) fn value(attribute: AttributeId, value: &str, out: &mut Vec<u8>) {
    values(attribute, out);
    if is_long(value) {
        out.extend_from_slice(&value.as_bytes()[..VALUE_BYTES]);
        out.push(1);
        out.extend_from_slice(&blake3::hash(value.as_bytes()).as_bytes()[..HASH_BYTES]);
    } else {
        out.extend_from_slice(value.as_bytes());
    }
    out.push(0);
}

/// Prefix of all values of an attribute.
pub(crate) fn values(attribute: AttributeId, out: &mut Vec<u8>) {
    out.clear();
    out.push(b'V');
    out.extend_from_slice(&attribute.0.to_be_bytes());
}

pub(crate) fn shared(channel: Channel, out: &mut Vec<u8>) {
    out.clear();
    out.extend_from_slice(&[b'S', channel as u8]);
}

pub(crate) fn seen(import: ImportId, out: &mut Vec<u8>) {
    out.clear();
    out.push(b'I');
    out.extend_from_slice(&import.0.to_be_bytes());
}

pub(crate) fn consented(import: ImportId, number: u16, out: &mut Vec<u8>) {
    out.clear();
    out.push(b'C');
    out.extend_from_slice(&import.0.to_be_bytes());
    out.extend_from_slice(&number.to_be_bytes());
}

/// Completes a prefix to the key of the container that holds the row.
pub(crate) fn push_high(prefix: &mut Vec<u8>, row: u32) {
    prefix.extend_from_slice(&((row >> 16) as u16).to_be_bytes());
}

/// The prefix and the high bits of a key.
pub(crate) fn split(key: &[u8]) -> Option<(&[u8], u16)> {
    let (prefix, high) = key.split_at_checked(key.len().checked_sub(2)?)?;
    Some((prefix, u16::from_be_bytes([high[0], high[1]])))
}

/// The value of a 'V' prefix, if it stands in the key in full; else the container carries it.
pub(crate) fn value_of(prefix: &[u8]) -> Option<&str> {
    if prefix.len() + 2 == LONG_KEY_BYTES {
        return None;
    }
    std::str::from_utf8(prefix.get(3..prefix.len().checked_sub(1)?)?).ok()
}
