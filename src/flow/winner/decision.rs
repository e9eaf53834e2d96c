//! What happens with the rest of the audience. Owns no state; who asks journals the answer, once.
//!
//! A winner that is proven is sent as soon as it is. What is not proven goes on until the deadline, and is then settled by a
//! setting. Two things always wait for a person: arms that are exactly equal, and a sample that is broken.

use serde::{Deserialize, Serialize};

use super::{Judgement, Verdict};

/// The setting: what happens at the deadline when nothing is proven.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnNotProven {
    /// The rest gets the leader, even below the minimum sample, and the report says that it is not proven.
    #[default]
    Leader,
    /// The rest gets this variant.
    Variant(String),
    /// A person chooses.
    Wait,
    /// The rest gets nothing.
    Nobody,
}

/// Why a variant is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Basis {
    Proven,
    /// It leads, and that is not proven.
    Leader,
    /// The setting names it.
    Named,
    /// A person chose it.
    Person,
}

/// Why a person must choose.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Waiting {
    /// The setting says so.
    Asked,
    /// These arms are exactly equal at the top.
    Tied(Vec<String>),
    SampleBroken,
    /// Guard-rails forbid every arm, or the one that the setting names.
    Guarded,
    /// The setting names a variant that is none of the arms.
    UnknownVariant(String),
    /// No arm has a single contact.
    NoContacts,
}

/// What happens now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Decision {
    /// Nothing yet: the test goes on.
    Continue,
    /// The rest gets this variant. `proven` is whether the judgement proves it, whatever it is sent for.
    Send {
        variant: String,
        proven: bool,
        basis: Basis,
    },
    WaitForPerson(Waiting),
    /// The rest gets nothing.
    SendNobody,
}

impl Decision {
    /// A person's choice, which is always allowed; none for a name that is none of the arms.
    pub fn by_person(judgement: &Judgement, variant: &str) -> Option<Decision> {
        judgement.arm(variant)?;
        Some(send(judgement, variant, Basis::Person))
    }
}

fn send(judgement: &Judgement, variant: &str, basis: Basis) -> Decision {
    Decision::Send { variant: variant.to_owned(), proven: judgement.winner() == Some(variant), basis }
}

/// What follows from a judgement.
pub fn decide(judgement: &Judgement, deadline_reached: bool, on_not_proven: &OnNotProven) -> Decision {
    if let Some(winner) = judgement.winner() {
        return send(judgement, winner, Basis::Proven);
    }
    if !deadline_reached {
        return Decision::Continue;
    }
    if judgement.verdict == Verdict::SampleBroken {
        return Decision::WaitForPerson(Waiting::SampleBroken);
    }
    if !judgement.tied.is_empty() {
        return Decision::WaitForPerson(Waiting::Tied(judgement.tied.clone()));
    }
    match on_not_proven {
        OnNotProven::Leader => match &judgement.leader {
            Some(leader) => send(judgement, leader, Basis::Leader),
            None => Decision::WaitForPerson(without_leader(judgement)),
        },
        OnNotProven::Variant(name) => match judgement.arm(name) {
            None => Decision::WaitForPerson(Waiting::UnknownVariant(name.clone())),
            Some(arm) if !arm.guarded.is_empty() => Decision::WaitForPerson(Waiting::Guarded),
            Some(arm) => send(judgement, &arm.name, Basis::Named),
        },
        OnNotProven::Wait => Decision::WaitForPerson(Waiting::Asked),
        OnNotProven::Nobody => Decision::SendNobody,
    }
}

fn without_leader(judgement: &Judgement) -> Waiting {
    if judgement.arms.iter().all(|arm| arm.contacts == 0) { Waiting::NoContacts } else { Waiting::Guarded }
}

#[cfg(test)]
mod tests {
    use super::super::{Arm, Rules, judge};
    use super::*;

    fn judged(first: (u64, u64), second: (u64, u64)) -> Judgement {
        let arms = [Arm::new("A", first.0, first.1), Arm::new("B", second.0, second.1)];
        judge(&arms, &Rules::default()).expect("the counts are right")
    }

    fn policies() -> [OnNotProven; 4] {
        [OnNotProven::Leader, OnNotProven::Variant("A".into()), OnNotProven::Wait, OnNotProven::Nobody]
    }

    fn sent(variant: &str, proven: bool, basis: Basis) -> Decision {
        Decision::Send { variant: variant.into(), proven, basis }
    }

    #[test]
    fn a_proven_winner_is_sent_at_once_whatever_the_setting() {
        let proven = judged((100, 1_000), (200, 1_000));
        for policy in policies() {
            for deadline in [false, true] {
                assert_eq!(
                    decide(&proven, deadline, &policy),
                    sent("B", true, Basis::Proven),
                    "{policy:?}, {deadline}"
                );
            }
        }
    }

    #[test]
    fn what_is_not_proven_goes_on_and_then_follows_the_setting() {
        for open in [judged((100, 1_000), (105, 1_000)), judged((1, 10), (2, 10)), judged((100, 1_000), (100, 1_000))] {
            for policy in policies() {
                assert_eq!(decide(&open, false, &policy), Decision::Continue, "before the deadline");
            }
        }
        let close = judged((100, 1_000), (105, 1_000));
        let few = judged((1, 10), (2, 10));
        for judgement in [close, few] {
            let at = |policy| decide(&judgement, true, &policy);
            assert_eq!(at(OnNotProven::Leader), sent("B", false, Basis::Leader), "the leader, labelled");
            assert_eq!(at(OnNotProven::Variant("A".into())), sent("A", false, Basis::Named), "the named one");
            assert_eq!(
                at(OnNotProven::Variant("X".into())),
                Decision::WaitForPerson(Waiting::UnknownVariant("X".into()))
            );
            assert_eq!(at(OnNotProven::Wait), Decision::WaitForPerson(Waiting::Asked), "a person");
            assert_eq!(at(OnNotProven::Nobody), Decision::SendNobody, "nobody");
        }
        assert_eq!(OnNotProven::default(), OnNotProven::Leader, "the default");
    }

    #[test]
    fn ties_and_broken_samples_wait_for_a_person_whatever_the_setting() {
        let tied = judged((100, 1_000), (100, 1_000));
        let broken = judged((100, 1_000), (400, 1_500));
        for policy in policies() {
            let names = vec!["A".to_owned(), "B".to_owned()];
            assert_eq!(decide(&tied, true, &policy), Decision::WaitForPerson(Waiting::Tied(names)), "{policy:?}");
            assert_eq!(decide(&broken, true, &policy), Decision::WaitForPerson(Waiting::SampleBroken), "{policy:?}");
        }
        assert_eq!(Decision::by_person(&tied, "A"), Some(sent("A", false, Basis::Person)), "who may always choose");
        assert_eq!(Decision::by_person(&tied, "X"), None, "among the arms");
        let proven = judged((100, 1_000), (200, 1_000));
        assert_eq!(Decision::by_person(&proven, "B"), Some(sent("B", true, Basis::Person)), "and may agree");
    }

    #[test]
    fn an_arm_behind_a_guard_rail_is_not_sent_by_itself() {
        let mut arms = [Arm::new("A", 100, 1_000), Arm::new("B", 300, 1_000)];
        arms[1].complaints = 40;
        let judgement = judge(&arms, &Rules::default()).expect("the counts are right");
        assert_eq!(decide(&judgement, true, &OnNotProven::Leader), sent("A", false, Basis::Leader), "the other one");
        let named = decide(&judgement, true, &OnNotProven::Variant("B".into()));
        assert_eq!(named, Decision::WaitForPerson(Waiting::Guarded), "though the setting names it");
        arms[0].unsubscribes = 80;
        let judgement = judge(&arms, &Rules::default()).expect("the counts are right");
        assert_eq!(
            decide(&judgement, true, &OnNotProven::Leader),
            Decision::WaitForPerson(Waiting::Guarded),
            "none left"
        );
        let nobody = judged((0, 0), (0, 0));
        assert_eq!(
            decide(&nobody, true, &OnNotProven::Leader),
            Decision::WaitForPerson(Waiting::NoContacts),
            "no contacts"
        );
    }

    #[test]
    fn decisions_survive_the_journal_and_json() {
        let decisions = [
            Decision::Continue,
            Decision::SendNobody,
            sent("A", true, Basis::Person),
            Decision::WaitForPerson(Waiting::Tied(vec!["A".into(), "B".into()])),
            Decision::WaitForPerson(Waiting::SampleBroken),
        ];
        for decision in decisions {
            let packed = rmp_serde::to_vec(&decision).expect("packs");
            assert_eq!(rmp_serde::from_slice::<Decision>(&packed).expect("unpacks"), decision, "MessagePack");
            let json = serde_json::to_string(&decision).expect("is JSON");
            assert_eq!(serde_json::from_str::<Decision>(&json).expect("reads"), decision, "JSON");
        }
        let json = serde_json::to_value(sent("A", true, Basis::Leader)).expect("is JSON");
        assert_eq!(json, serde_json::json!({"send": {"variant": "A", "proven": true, "basis": "leader"}}), "its shape");
    }
}
