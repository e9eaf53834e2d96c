//! Mutations: bytes, numbers, ranges, words of the target's language, and parts of two seeds joined.
//!
//! Written here and not taken from a crate, so that a seed printed by a failing run replays for ever. (SplitMix64; Steele,
//! Lea, Flood, OOPSLA 2014.)

/// Bytes of the longest input: long inputs find less in the same time.
const INPUT_BYTES_MAX: usize = 4_096;

/// What the languages are made of; most mean something in several of them.
const WORDS: &[&str] = &[
    "\"",
    "'",
    "\\",
    "`",
    "\n",
    "\r\n",
    "\0",
    "\t",
    ",",
    ";",
    "|",
    "=",
    "(",
    ")",
    "[",
    "]",
    "{",
    "}",
    "<",
    ">",
    "/",
    "@",
    ":",
    "-",
    "+",
    ".",
    "{{",
    "}}",
    "{%",
    "%}",
    "{#",
    "#}",
    "{{ contact.email }}",
    "{% if x %}",
    "{% endif %}",
    "{% for x in y %}",
    "{% endfor %}",
    "{% set a = 1 %}",
    "{% endset %}",
    "{% raw %}",
    "{% endraw %}",
    "|default('')",
    "|date",
    "|number",
    "|truncate(3)",
    "unsubscribe_url",
    "<a href=\"https://a.test/\">",
    "</a>",
    "<!--",
    "-->",
    "<mjml>",
    "&amp;",
    "&#x41;",
    "\u{1}",
    "\u{e9}",
    "\u{1f600}",
    "\u{202e}",
    "\u{feff}",
    " and ",
    " or ",
    " not ",
    " in ",
    " is empty",
    " between ",
    " has ",
    "in list ",
    "in segment ",
    "now",
    "today",
    "30d",
    "2mo",
    "2026-02-29",
    "2026-12-31T23:59:60Z",
    "true",
    "null",
    "0",
    "-1",
    "1e999",
    "18446744073709551616",
    "NaN",
    "[audience]",
    "[message]",
    "[limits]",
    "name = ",
    "\"audience\":",
    "\"message\":",
    "segment",
    "channel",
    "2026-12-01T18:00:00+01:00",
    "250 ",
    "250-",
    "354 ",
    "421 4.7.0 ",
    "450 4.2.0 ",
    "550 5.1.1 ",
    "554 5.7.1 ",
    "try again in 99999999999999999999 seconds",
    "id,email\n",
    "a@b.test",
    "+33612345678",
];

/// Integers at which arithmetic breaks.
const EDGES: [u64; 12] = [
    0,
    1,
    0x7f,
    0xff,
    0x7fff,
    0xffff,
    0x7fff_ffff,
    0xffff_ffff,
    0x1_0000_0000,
    0x7fff_ffff_ffff_ffff,
    0xffff_ffff_ffff_fffe,
    0xffff_ffff_ffff_ffff,
];

pub(crate) struct Mutator {
    state: u64,
}

impl Mutator {
    /// The same seed, target and number give the same input, whatever was made before.
    pub(crate) fn new(seed: u64, target: &str, index: u64) -> Mutator {
        let salt =
            target.bytes().fold(0xcbf2_9ce4_8422_2325u64, |h, b| (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3));
        let mut mutator = Mutator { state: seed ^ salt.rotate_left(17) };
        mutator.state = mutator.next() ^ index.wrapping_mul(0xd134_2543_de82_ef95);
        mutator
    }

    fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Below `below`; 0 for 0.
    fn below(&mut self, below: usize) -> usize {
        usize::try_from(self.next() % below.max(1) as u64).expect("below a length")
    }

    fn range(&mut self, length: usize) -> (usize, usize) {
        let from = self.below(length + 1);
        let most = (length - from).min(if self.below(4) == 0 { 512 } else { 16 });
        (from, from + self.below(most + 1))
    }

    /// A seed, changed one to eight times.
    pub(crate) fn input(&mut self, seeds: &[Vec<u8>]) -> Vec<u8> {
        let mut input = seeds[self.below(seeds.len())].clone();
        if self.below(8) == 0 {
            let other = &seeds[self.below(seeds.len())];
            let (keep, from) = (self.below(input.len() + 1), self.below(other.len() + 1));
            input.truncate(keep);
            input.extend_from_slice(&other[from..]);
        }
        for _ in 0..=self.below(8) {
            self.change(&mut input);
        }
        input.truncate(INPUT_BYTES_MAX);
        input
    }

    fn change(&mut self, input: &mut Vec<u8>) {
        let (from, to) = self.range(input.len());
        match self.below(9) {
            0 if !input.is_empty() => {
                let at = self.below(input.len());
                input[at] ^= 1 << self.below(8);
            }
            1 if !input.is_empty() => {
                let at = self.below(input.len());
                input[at] = self.next().to_le_bytes()[0];
            }
            2 => drop(input.drain(from..to)),
            3 => {
                let copy = input[from..to].to_vec();
                let at = self.below(input.len() + 1);
                input.splice(at..at, copy);
            }
            4 => {
                let repeated = input[from..to].repeat(1 + self.below(20));
                input.splice(from..to, repeated);
            }
            5 => self.edge(input),
            6 => input.truncate(to),
            _ => {
                let word = WORDS[self.below(WORDS.len())].as_bytes();
                let to = if self.below(2) == 0 { from } else { to };
                input.splice(from..to, word.iter().copied());
            }
        }
    }

    /// Writes a number over 1, 2, 4 or 8 bytes, little or big endian.
    fn edge(&mut self, input: &mut [u8]) {
        let value = EDGES[self.below(EDGES.len())];
        let width = 1 << self.below(4);
        if input.len() < width {
            return;
        }
        let at = self.below(input.len() - width + 1);
        let bytes = &value.to_le_bytes()[..width];
        input[at..at + width].copy_from_slice(bytes);
        if self.below(2) == 0 {
            input[at..at + width].reverse();
        }
    }
}
