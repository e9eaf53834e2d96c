//! What a sample of `perf` was spent on: the stages of a message, and the parts of each.
//!
//! Owns no state. A sample is told by the system call that the kernel was in, else by the module that the program was in.
//! Invariants: 1. every sample has one stage, and the stages are all of them; 2. the stages that are asked for are shown
//! even where they are nothing; 3. what no rule knows is a stage of its own, so that it cannot hide in another.

use std::collections::BTreeMap;

/// A stage of a message's way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Stage {
    Render,
    Splice,
    Session,
    Socket,
    Journal,
    Ledger,
    Hops,
    Store,
    Secrets,
    Memory,
    Other,
}

impl Stage {
    /// Every stage, in the order of a message's way.
    pub(super) const ALL: [Stage; 11] = [
        Stage::Render,
        Stage::Splice,
        Stage::Session,
        Stage::Socket,
        Stage::Journal,
        Stage::Ledger,
        Stage::Hops,
        Stage::Store,
        Stage::Secrets,
        Stage::Memory,
        Stage::Other,
    ];

    /// Its name, and what it is, for somebody who does not know the engine.
    pub(super) fn name(self) -> &'static str {
        match self {
            Stage::Render => "render: template logic, values of a contact, tokens of its links",
            Stage::Splice => "splice: static text and values put together, and copied",
            Stage::Session => "session: SMTP commands, answers, limits, circuits",
            Stage::Socket => "socket: the kernel's work for sending and receiving",
            Stage::Journal => "journal: frames, writes, fdatasync",
            Stage::Ledger => "ledger: sets of contacts, claims, settlements",
            Stage::Hops => "actor hops: mailboxes, lanes, the runtime, waking threads",
            Stage::Store => "store: reading contacts",
            Stage::Secrets => "secrets: TLS, DKIM",
            Stage::Memory => "memory: allocator, page faults",
            Stage::Other => "other: what no rule knows",
        }
    }

    /// Whether it stands in the table even if nothing was seen of it.
    pub(super) fn is_asked_for(self) -> bool {
        matches!(self, Stage::Render | Stage::Splice | Stage::Journal | Stage::Socket | Stage::Hops)
    }
}

/// Samples by stage and part.
pub(super) type Counted = BTreeMap<(Stage, &'static str), u64>;

/// Counts the samples in the output of `perf script -F comm,ip,sym,dso`.
pub(super) fn count(lines: impl Iterator<Item = String>) -> Counted {
    let mut counted = Counted::new();
    let (mut thread, mut frames): (String, Vec<(String, bool)>) = (String::new(), Vec::new());
    for line in lines.chain([String::new()]) {
        if line.trim().is_empty() {
            if !frames.is_empty() {
                *counted.entry(stage(&thread, &frames)).or_default() += 1;
            }
            frames.clear();
        } else if !line.starts_with([' ', '\t']) {
            line.trim().clone_into(&mut thread);
        } else if let Some((_, rest)) = line.trim().split_once(' ') {
            let (symbol, place) = rest.rsplit_once(" (").unwrap_or((rest, ""));
            frames.push((symbol.to_owned(), place.contains("kernel")));
        }
    }
    counted
}

/// System calls by a part of the name of a function that they pass through.
const CALLS: [(&str, Stage, &str); 12] = [
    ("writev", Stage::Socket, "write"),
    ("sys_sendto", Stage::Socket, "write"),
    ("sys_recvfrom", Stage::Socket, "read"),
    ("epoll_wait", Stage::Socket, "wait (epoll)"),
    ("sys_epoll", Stage::Socket, "wait (epoll)"),
    ("fdatasync", Stage::Journal, "fdatasync"),
    ("pwrite", Stage::Journal, "write"),
    ("futex", Stage::Hops, "waking and waiting (futex)"),
    ("sys_write", Stage::Hops, "waking (eventfd)"),
    ("sched_yield", Stage::Hops, "waking and waiting (futex)"),
    ("page_fault", Stage::Memory, "page faults"),
    ("sysvec", Stage::Other, "interrupts"),
];

/// Stages of the program by a part of the name of the function that was running; the first that holds counts.
const MODULES: [(&str, Stage, &str); 27] = [
    ("memmove", Stage::Splice, "copies"),
    ("memset", Stage::Splice, "copies"),
    ("malloc", Stage::Memory, "allocator"),
    ("_int_free", Stage::Memory, "allocator"),
    ("cfree", Stage::Memory, "allocator"),
    ("realloc", Stage::Memory, "allocator"),
    ("rust_alloc", Stage::Memory, "allocator"),
    ("rdl_", Stage::Memory, "allocator"),
    ("content::tokens", Stage::Render, "tokens"),
    ("blake3", Stage::Render, "tokens"),
    ("content::native", Stage::Render, "template logic"),
    ("minijinja", Stage::Render, "template engine"),
    ("jiff", Stage::Render, "dates"),
    ("content::", Stage::Splice, "pieces"),
    ("channels::smtp::dkim", Stage::Secrets, "DKIM"),
    ("mail_auth", Stage::Secrets, "DKIM"),
    ("aws_lc", Stage::Secrets, "cryptography"),
    ("rustls", Stage::Secrets, "TLS"),
    ("channels::", Stage::Session, "commands, answers, limits"),
    ("actors::", Stage::Hops, "actors and lanes"),
    ("ledger::", Stage::Ledger, "moves"),
    ("roaring", Stage::Ledger, "sets"),
    ("journal::", Stage::Journal, "frames, marks"),
    ("mdb_", Stage::Store, "LMDB"),
    ("contacts::", Stage::Store, "records"),
    ("tokio", Stage::Hops, "runtime"),
    ("mio::", Stage::Hops, "runtime"),
];

/// The stage of one sample, leaf first.
fn stage(thread: &str, frames: &[(String, bool)]) -> (Stage, &'static str) {
    let Some((leaf, in_kernel)) = frames.first() else { return (Stage::Other, "unknown") };
    if *in_kernel {
        let passed = |part: &str| frames.iter().any(|(symbol, in_kernel)| *in_kernel && symbol.contains(part));
        let call = CALLS.iter().find(|(part, ..)| passed(part));
        return call.map_or((Stage::Other, "kernel, other"), |(_, stage, what)| (*stage, what));
    }
    match MODULES.iter().find(|(part, ..)| leaf.contains(part)) {
        Some((_, stage, what)) => (*stage, what),
        None if leaf.contains("clock_gettime") || leaf.contains("Instant") => (Stage::Other, "clock"),
        None if thread.starts_with("lanes-") => (Stage::Other, "library code in lanes"),
        None => (Stage::Other, "library code elsewhere"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SCRIPT: &str = "lanes-0 \n\tffffffff81b69d34 _copy_from_iter ([kernel.kallsyms])\n\tffffffff816b7aac do_writev ([kernel.kallsyms])\n\
        \t           fde9d __GI___writev (/lib/libc.so.6)\n\nlanes-1 \n\t 14f8c2d <estafette::content::splice::BodySink as estafette::content::splice::Sink>::span (/x/estafette)\n\n\
        journal \n\t 1 core::fmt::write (/x/estafette)\n\nlanes-0 \n\t 1 minijinja::vm::eval (/x/estafette)\n\nlanes-0 \n\t 1 what (inlined) (/x/estafette)\n\n\
        journal \n\t 1 ext4_sync_file ([kernel.kallsyms])\n\t 2 __x64_sys_fdatasync ([kernel.kallsyms])\n";

    #[test]
    fn samples_are_sorted_into_stages() {
        let counted = count(SCRIPT.lines().map(str::to_owned));
        let expected = [
            (Stage::Render, "template engine"),
            (Stage::Splice, "pieces"),
            (Stage::Socket, "write"),
            (Stage::Journal, "fdatasync"),
            (Stage::Other, "library code in lanes"),
            (Stage::Other, "library code elsewhere"),
        ];
        assert_eq!(counted, expected.into_iter().map(|of| (of, 1)).collect());
    }

    #[test]
    fn every_stage_of_a_rule_is_shown() {
        let ruled = CALLS.iter().chain(&MODULES).map(|(_, stage, _)| stage);
        assert!(ruled.into_iter().all(|stage| Stage::ALL.contains(stage)), "no rule's samples are left out");
        assert!(Stage::ALL.windows(2).all(|pair| pair[0] < pair[1]), "each once");
    }
}
