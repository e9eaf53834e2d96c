//! The kernel's boot id: whether the page cache that a process wrote to is still there.

use std::fmt;

const BOOT_ID_FILE: &str = "/proc/sys/kernel/random/boot_id";

/// Names one boot of the kernel; see random(4).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct BootId(pub [u8; 16]);

impl BootId {
    /// Equals no other, not even itself ([`BootId::same`]): what is taken when the kernel does not say.
    pub const NONE: BootId = BootId([0; 16]);

    /// The running kernel's, or [`BootId::NONE`].
    pub fn current() -> BootId {
        std::fs::read_to_string(BOOT_ID_FILE).ok().and_then(|text| BootId::parse(text.trim())).unwrap_or(BootId::NONE)
    }

    /// Of the form `6fd5a44b-35f4-4ad4-a9b9-6b9be13e1fe9`.
    fn parse(text: &str) -> Option<BootId> {
        let digits: Vec<u8> = text.bytes().filter(|b| *b != b'-').collect();
        let mut id = [0; 16];
        if digits.len() != 32 {
            return None;
        }
        for (byte, pair) in id.iter_mut().zip(digits.chunks_exact(2)) {
            *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
        }
        Some(BootId(id))
    }

    /// Whether both are the same, known boot.
    pub fn same(self, other: BootId) -> bool {
        self == other && self != BootId::NONE
    }
}

impl fmt::Display for BootId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_form_is_read_and_anything_else_is_not() {
        let id = BootId::parse("6fd5a44b-35f4-4ad4-a9b9-6b9be13e1fe9").expect("a boot id");
        assert_eq!(id.to_string(), "6fd5a44b35f44ad4a9b96b9be13e1fe9", "all digits are kept");
        for bad in [
            "",
            "6fd5",
            "zfd5a44b-35f4-4ad4-a9b9-6b9be13e1fe9",
            "6fd5a44b-35f4-4ad4-a9b9-6b9be13e1fe",
            "ééééééééééééééééé",
        ] {
            assert_eq!(BootId::parse(bad), None, "{bad:?} is no boot id");
        }
    }

    #[test]
    fn an_unknown_boot_is_never_the_same() {
        assert!(!BootId::NONE.same(BootId::NONE), "no id is trusted");
        assert!(BootId([3; 16]).same(BootId([3; 16])), "an id equals itself");
    }
}
