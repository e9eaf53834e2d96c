//! Signed, opaque tokens: what a link, an open pixel, an unsubscribe address, a view address and a return path carry.
//!
//! A token is `key id ‖ tag ‖ (id ⊕ PRF(tag))`: `tag` is a MAC over the id in one domain (a synthetic IV, as in
//! RFC 5297), so the id is hidden and equal ids give equal tokens. MAC and PRF are keyed BLAKE3, each under a key of
//! its own per domain, derived from the root key. The state owned here is those keys.
//!
//! Invariants: TK-1 a token of one domain is refused in every other; TK-2 every changed, cut or lengthened text is
//! refused, spare bits included; TK-3 a refusal says nothing of its reason; TK-4 tags are compared in constant time;
//! TK-5 a token has [`TOKEN_CHARS`] (or [`RETURN_PATH_CHARS`]) characters, whatever the id.
//!
//! What this module must not know: URLs, messages, contacts.

use subtle::ConstantTimeEq;

use crate::ids::{ContactRow, MessageId, RowSpace, RunId};

const ID_BYTES: usize = 14;
/// 128 bits: forging takes 2^128 tries on line, which no rate limit needs to help with.
const TAG_BYTES: usize = 16;
const BODY_BYTES: usize = TAG_BYTES + ID_BYTES;
/// Thirty bytes are forty characters of base64url without spare bits, after one character for the key id.
pub const TOKEN_CHARS: usize = 1 + 40;
/// Thirty bytes are forty-eight characters of base32 without spare bits, after one character for the key id.
pub const RETURN_PATH_CHARS: usize = 1 + 48;
/// Key ids are one character of the base32 alphabet.
pub const KEY_IDS_MAX: u8 = 32;

const BASE32: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";
const BASE64URL: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
const OF_BASE32: [u8; 256] = values(BASE32);
const OF_BASE64URL: [u8; 256] = values(BASE64URL);
const NO_VALUE: u8 = 255;

/// The value of each character of an alphabet.
const fn values(alphabet: &[u8]) -> [u8; 256] {
    let mut values = [NO_VALUE; 256];
    let mut at = 0;
    while at < alphabet.len() {
        values[alphabet[at] as usize] = at as u8;
        at += 1;
    }
    values
}

/// Whom and what a token names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TokenId {
    pub space: RowSpace,
    pub run: RunId,
    pub message: MessageId,
    pub row: ContactRow,
}

impl TokenId {
    fn to_bytes(self) -> [u8; ID_BYTES] {
        let mut bytes = [0; ID_BYTES];
        bytes[..4].copy_from_slice(&self.space.0.to_le_bytes());
        bytes[4..8].copy_from_slice(&self.run.0.to_le_bytes());
        bytes[8..10].copy_from_slice(&self.message.0.to_le_bytes());
        bytes[10..].copy_from_slice(&self.row.0.to_le_bytes());
        bytes
    }

    fn from_bytes(b: [u8; ID_BYTES]) -> TokenId {
        TokenId {
            space: RowSpace(u32::from_le_bytes([b[0], b[1], b[2], b[3]])),
            run: RunId(u32::from_le_bytes([b[4], b[5], b[6], b[7]])),
            message: MessageId(u16::from_le_bytes([b[8], b[9]])),
            row: ContactRow(u32::from_le_bytes([b[10], b[11], b[12], b[13]])),
        }
    }
}

/// The one answer to every token that is not ours: tampered, cut, foreign, of another domain or of a forgotten key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the token is not valid")]
pub struct Refused;

#[derive(Clone, Copy)]
enum Domain {
    Link,
    LinkUrl,
    Unsubscribe,
    View,
    ReturnPath,
}

const DOMAINS: [(Domain, &str, &str); 5] = [
    (Domain::Link, "estafette 2026 token link mac", "estafette 2026 token link prf"),
    (Domain::LinkUrl, "estafette 2026 token link-url mac", "estafette 2026 token link-url prf"),
    (Domain::Unsubscribe, "estafette 2026 token unsubscribe mac", "estafette 2026 token unsubscribe prf"),
    (Domain::View, "estafette 2026 token view mac", "estafette 2026 token view prf"),
    (Domain::ReturnPath, "estafette 2026 token return-path mac", "estafette 2026 token return-path prf"),
];

#[derive(Clone)]
struct DomainKeys {
    mac: [u8; 32],
    prf: [u8; 32],
}

#[derive(Clone)]
struct KeySet {
    key_id: u8,
    domains: [DomainKeys; DOMAINS.len()],
}

impl KeySet {
    fn derive(key_id: u8, root: &[u8; 32]) -> KeySet {
        let domains = DOMAINS
            .map(|(_, mac, prf)| DomainKeys { mac: blake3::derive_key(mac, root), prf: blake3::derive_key(prf, root) });
        KeySet { key_id, domains }
    }

    fn keys(&self, domain: Domain) -> &DomainKeys {
        &self.domains[domain as usize]
    }

    fn seal(&self, domain: Domain, id: [u8; ID_BYTES], more: &[&[u8]]) -> [u8; BODY_BYTES] {
        let keys = self.keys(domain);
        let tag = mac(&keys.mac, &id, more);
        let mut body = [0; BODY_BYTES];
        body[..TAG_BYTES].copy_from_slice(&tag);
        let pad = blake3::keyed_hash(&keys.prf, &tag);
        for (out, (plain, pad)) in body[TAG_BYTES..].iter_mut().zip(id.iter().zip(pad.as_bytes())) {
            *out = plain ^ pad;
        }
        body
    }

    fn open(&self, domain: Domain, body: &[u8; BODY_BYTES], more: &[&[u8]]) -> Result<TokenId, Refused> {
        let keys = self.keys(domain);
        let (tag, hidden) = body.split_at(TAG_BYTES);
        let pad = blake3::keyed_hash(&keys.prf, tag);
        let mut id = [0; ID_BYTES];
        for (out, (hidden, pad)) in id.iter_mut().zip(hidden.iter().zip(pad.as_bytes())) {
            *out = hidden ^ pad;
        }
        let expected = mac(&keys.mac, &id, more);
        if bool::from(expected.ct_eq(tag)) { Ok(TokenId::from_bytes(id)) } else { Err(Refused) }
    }
}

fn mac(key: &[u8; 32], id: &[u8; ID_BYTES], more: &[&[u8]]) -> [u8; TAG_BYTES] {
    let hash = if more.is_empty() {
        blake3::keyed_hash(key, id)
    } else {
        let mut hasher = blake3::Hasher::new_keyed(key);
        hasher.update(id);
        for part in more {
            hasher.update(part);
        }
        hasher.finalize()
    };
    let mut tag = [0; TAG_BYTES];
    tag.copy_from_slice(&hash.as_bytes()[..TAG_BYTES]);
    tag
}

/// The keys that make and verify tokens. New tokens use the newest key; older keys still verify.
#[derive(Clone)]
pub struct TokenKeys {
    current: KeySet,
    older: Vec<KeySet>,
}

impl std::fmt::Debug for TokenKeys {
    /// Never prints keys.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TokenKeys").field("key_id", &self.current.key_id).field("older", &self.older.len()).finish()
    }
}

impl TokenKeys {
    /// Keys derived from one root key of 32 random bytes, with key id 0.
    pub fn new(root: &[u8; 32]) -> TokenKeys {
        TokenKeys { current: KeySet::derive(0, root), older: Vec::new() }
    }

    /// Makes `root` the key of new tokens; the keys so far go on verifying theirs.
    ///
    /// # Errors
    /// [`Refused`] if `key_id` is in use or not below [`KEY_IDS_MAX`].
    pub fn rotated(mut self, key_id: u8, root: &[u8; 32]) -> Result<TokenKeys, Refused> {
        if key_id >= KEY_IDS_MAX || self.sets().any(|s| s.key_id == key_id) {
            return Err(Refused);
        }
        self.older.push(std::mem::replace(&mut self.current, KeySet::derive(key_id, root)));
        Ok(self)
    }

    fn sets(&self) -> impl Iterator<Item = &KeySet> {
        std::iter::once(&self.current).chain(&self.older)
    }

    fn make(&self, domain: Domain, id: TokenId, more: &[&[u8]]) -> Token {
        let body = self.current.seal(domain, id.to_bytes(), more);
        let mut text = [0; TOKEN_CHARS];
        text[0] = key_char(self.current.key_id);
        encode(&body, &mut text[1..], BASE64URL, 6);
        Token(text)
    }

    fn verify(&self, domain: Domain, text: &str, more: &[&[u8]]) -> Result<TokenId, Refused> {
        let text: &[u8; TOKEN_CHARS] = text.as_bytes().try_into().map_err(|_| Refused)?;
        let body = decode(&text[1..], &OF_BASE64URL, 6)?;
        self.set_of(text[0])?.open(domain, &body, more)
    }

    fn set_of(&self, key: u8) -> Result<&KeySet, Refused> {
        self.sets().find(|s| key_char(s.key_id) == key).ok_or(Refused)
    }

    /// The token of every link and of the open pixel; which link it is stands outside, and the caller checks it against
    /// the message's table.
    pub fn make_link(&self, id: TokenId) -> Token {
        self.make(Domain::Link, id, &[])
    }

    pub fn verify_link(&self, token: &str) -> Result<TokenId, Refused> {
        self.verify(Domain::Link, token, &[])
    }

    /// The token of a link whose URL holds expressions: it signs the link's index and the rendered URL too.
    pub fn make_link_url(&self, id: TokenId, index: u16, url: &str) -> Token {
        self.make(Domain::LinkUrl, id, &[&index.to_le_bytes(), url.as_bytes()])
    }

    pub fn verify_link_url(&self, token: &str, index: u16, url: &str) -> Result<TokenId, Refused> {
        self.verify(Domain::LinkUrl, token, &[&index.to_le_bytes(), url.as_bytes()])
    }

    pub fn make_unsubscribe(&self, id: TokenId) -> Token {
        self.make(Domain::Unsubscribe, id, &[])
    }

    pub fn verify_unsubscribe(&self, token: &str) -> Result<TokenId, Refused> {
        self.verify(Domain::Unsubscribe, token, &[])
    }

    pub fn make_view(&self, id: TokenId) -> Token {
        self.make(Domain::View, id, &[])
    }

    pub fn verify_view(&self, token: &str) -> Result<TokenId, Refused> {
        self.verify(Domain::View, token, &[])
    }

    /// The part of a return path that names the message: base32, as mail systems may fold the case of a local part.
    pub fn make_return_path(&self, id: TokenId) -> ReturnPathToken {
        let body = self.current.seal(Domain::ReturnPath, id.to_bytes(), &[]);
        let mut text = [0; RETURN_PATH_CHARS];
        text[0] = key_char(self.current.key_id);
        encode(&body, &mut text[1..], BASE32, 5);
        ReturnPathToken(text)
    }

    /// Verifies in any case of letters.
    pub fn verify_return_path(&self, token: &str) -> Result<TokenId, Refused> {
        let lower = token.to_ascii_lowercase();
        let text: &[u8; RETURN_PATH_CHARS] = lower.as_bytes().try_into().map_err(|_| Refused)?;
        let body = decode(&text[1..], &OF_BASE32, 5)?;
        self.set_of(text[0])?.open(Domain::ReturnPath, &body, &[])
    }
}

/// A token of fixed length in base64url.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Token([u8; TOKEN_CHARS]);

/// A token of fixed length in lower-case base32.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReturnPathToken([u8; RETURN_PATH_CHARS]);

impl Token {
    pub fn as_bytes(&self) -> &[u8; TOKEN_CHARS] {
        &self.0
    }

    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or("")
    }
}

impl ReturnPathToken {
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or("")
    }
}

fn key_char(key_id: u8) -> u8 {
    BASE32[usize::from(key_id % KEY_IDS_MAX)]
}

/// Writes `body` with `bits` bits a character, five bytes (base32) or three (base64) at a time; no bit is left over.
fn encode(body: &[u8; BODY_BYTES], out: &mut [u8], alphabet: &[u8], bits: u32) {
    let (bytes, chars) = if bits == 5 { (5, 8) } else { (3, 4) };
    let mask = (1u64 << bits) - 1;
    for (group, out) in body.chunks_exact(bytes).zip(out.chunks_exact_mut(chars)) {
        let value = group.iter().fold(0u64, |value, byte| (value << 8) | u64::from(*byte));
        for (i, c) in out.iter_mut().rev().enumerate() {
            *c = alphabet[((value >> (i as u32 * bits)) & mask) as usize];
        }
    }
}

fn decode(text: &[u8], values: &[u8; 256], bits: u32) -> Result<[u8; BODY_BYTES], Refused> {
    let mut body = [0; BODY_BYTES];
    let (mut buffer, mut held) = (0u32, 0u32);
    let mut at = 0;
    for c in text {
        let value = values[usize::from(*c)];
        if value == NO_VALUE {
            return Err(Refused);
        }
        buffer = (buffer << bits) | u32::from(value);
        held += bits;
        if held >= 8 {
            held -= 8;
            *body.get_mut(at).ok_or(Refused)? = ((buffer >> held) & 0xFF) as u8;
            at += 1;
        }
    }
    if at == BODY_BYTES && held == 0 { Ok(body) } else { Err(Refused) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn keys() -> TokenKeys {
        TokenKeys::new(&[7; 32])
    }

    fn id(space: u32, run: u32, message: u16, row: u32) -> TokenId {
        TokenId { space: RowSpace(space), run: RunId(run), message: MessageId(message), row: ContactRow(row) }
    }

    type Verify = fn(&TokenKeys, &str) -> Result<TokenId, Refused>;

    fn all(keys: &TokenKeys, id: TokenId) -> Vec<(&'static str, String, Verify)> {
        vec![
            ("link", keys.make_link(id).as_str().to_owned(), |k, t| k.verify_link(t)),
            ("unsubscribe", keys.make_unsubscribe(id).as_str().to_owned(), |k, t| k.verify_unsubscribe(t)),
            ("view", keys.make_view(id).as_str().to_owned(), |k, t| k.verify_view(t)),
            ("return path", keys.make_return_path(id).as_str().to_owned(), |k, t| k.verify_return_path(t)),
            ("link url", keys.make_link_url(id, 3, "https://a.test/").as_str().to_owned(), |k, t| {
                k.verify_link_url(t, 3, "https://a.test/")
            }),
        ]
    }

    #[test]
    fn every_changed_byte_cut_or_foreign_domain_is_refused() {
        let keys = keys();
        let tokens = all(&keys, id(1, 2, 3, 4));
        for (name, text, verify) in &tokens {
            assert_eq!(verify(&keys, text), Ok(id(1, 2, 3, 4)), "{name}: the token itself");
            for at in 0..text.len() {
                for replacement in 0..=127u8 {
                    let mut bytes = text.clone().into_bytes();
                    if bytes[at].eq_ignore_ascii_case(&replacement) && *name == "return path"
                        || bytes[at] == replacement
                    {
                        continue;
                    }
                    bytes[at] = replacement;
                    let tampered = String::from_utf8(bytes).expect("ASCII");
                    assert_eq!(verify(&keys, &tampered), Err(Refused), "{name}: byte {at} set to {replacement}");
                }
                assert_eq!(verify(&keys, &text[..at]), Err(Refused), "{name}: cut at {at}");
            }
            assert_eq!(verify(&keys, &format!("{text}A")), Err(Refused), "{name}: lengthened");
            for (other, _, foreign) in tokens.iter().filter(|(other, ..)| other != name) {
                assert_eq!(foreign(&keys, text), Err(Refused), "{name} token as {other}");
            }
            assert_eq!(verify(&TokenKeys::new(&[8; 32]), text), Err(Refused), "{name}: another root key");
        }
    }

    #[test]
    fn a_link_with_url_is_bound_to_its_index_and_url() {
        let keys = keys();
        let token = keys.make_link_url(id(0, 1, 0, 9), 2, "https://a.test/?q=1");
        let verify = |index, url| keys.verify_link_url(token.as_str(), index, url);
        assert_eq!(verify(2, "https://a.test/?q=1"), Ok(id(0, 1, 0, 9)), "itself");
        assert_eq!(verify(3, "https://a.test/?q=1"), Err(Refused), "another index");
        assert_eq!(verify(2, "https://evil.test/"), Err(Refused), "another URL");
    }

    #[test]
    fn older_keys_verify_and_new_tokens_use_the_newest() {
        let old = keys();
        let token = old.make_view(id(0, 1, 0, 2));
        let rotated = old.clone().rotated(1, &[9; 32]).expect("a free key id");
        assert_eq!(rotated.verify_view(token.as_str()), Ok(id(0, 1, 0, 2)), "an old token");
        let newer = rotated.make_view(id(0, 1, 0, 2));
        assert_eq!(newer.as_bytes()[0], b'b', "the key id stands in front");
        assert_eq!(old.verify_view(newer.as_str()), Err(Refused), "the old keys do not know it");
        assert!(rotated.clone().rotated(0, &[1; 32]).is_err(), "a key id is used once");
        assert!(rotated.rotated(32, &[1; 32]).is_err(), "key ids end at 31");
    }

    #[test]
    fn a_return_path_survives_case_folding() {
        let keys = keys();
        let token = keys.make_return_path(id(0, 5, 1, 77));
        assert_eq!(keys.verify_return_path(&token.as_str().to_uppercase()), Ok(id(0, 5, 1, 77)), "upper case");
        assert_eq!(token.as_str().len(), RETURN_PATH_CHARS, "length");
    }

    proptest! {
        #[test]
        fn every_id_comes_back_and_random_text_never_does(
            (space, run, message, row) in any::<(u32, u32, u16, u32)>(), noise in "[a-z2-7]{49}|[A-Za-z0-9_-]{41}|.{0,60}"
        ) {
            let keys = keys();
            for (name, text, verify) in all(&keys, id(space, run, message, row)) {
                prop_assert_eq!(verify(&keys, &text), Ok(id(space, run, message, row)), "{}", name);
                prop_assert_eq!(verify(&keys, &noise), Err(Refused), "{}", name);
            }
        }
    }
}
