//! Blocks without the template engine: they print, skip and refuse what the engine would, and what they do not know they leave
//! to it.

use super::*;
use crate::content::render::SkipReason;

/// Blocks that need no template engine; the property test of this folder mixes them with everything else.
pub(super) const BLOCKS: &[&str] = &[
    "{% if contact.points >= 60 and contact.plan == 'gold' %}A{% elif not contact.city %}B{% else %}C{{ contact.company }}{% endif %}",
    "{% for i in contact.interests %}{% if loop.first %}[{% endif %}{{ i }}{% if not loop.last %}, {% endif %}{% else %}none{% endfor %}",
    "{{ contact.plan|default('none & such') }}{{ contact['city'] | d }}",
    "{% if contact.plan is defined or contact.points < 5.5 %}d{% endif %}{% if contact.city is undefined %}u{% endif %}",
    "{% for i in contact.interests %}{% if i > 'm' %}{{ i }}{% endif %}{% for j in contact.interests %}{{ i }}{{ j }}{% if loop.index == 2 %}!{% endif %}{% endfor %}{% endfor %}",
    "{% if contact.interests %}{{ campaign.name }}{{ contact.interests }}{% endif %}{% if contact.points != -3 or 'x' %}y{% endif %}",
    "{% if contact.first_name < contact.last_name %}<{% else %}>={% endif %}{% if contact.points <= contact.city %}t{% endif %}",
    "{% if contact.interests == contact.interests %}s{% endif %}{% if true and not (contact.points == 7 or false) %}n{% endif %}",
];

/// What the compiler leaves to the engine.
const FOREIGN: &[&str] = &[
    "{% if contact.city|upper == 'X' %}x{% endif %}",
    "{% for i in contact.interests %}{{ loop.index }}{% endfor %}",
    "{% for i in contact.interests if i %}{{ i }}{% endfor %}",
    "{% for i in contact.city %}{{ i }}{% endfor %}",
    "{% if 'a' in contact.interests %}x{% endif %}",
    "{% if 1 < contact.points < 5 %}x{% endif %}",
    "{{ contact.points + 1 }}",
    "{% if contact.points > 1 %}<a href=\"https://a.test/{{ contact.city }}\">x</a>{% endif %}",
];

fn message(block: &str, missing: Missing) -> Arc<CompiledMessage> {
    let source = MessageSource { missing, ..bare("s", &format!("<p>{block}</p>"), "t") };
    compiled(&source)
}

#[test]
fn what_is_known_needs_no_engine_and_what_is_not_keeps_it() {
    for block in BLOCKS {
        assert_eq!(message(block, Missing::Empty).program.residual, "", "{block}");
    }
    for block in FOREIGN {
        assert_ne!(message(block, Missing::Empty).program.residual, "", "{block}");
    }
    let bound = "{% set x = 1 %}{% if contact.points %}x{% endif %}";
    assert_ne!(message(bound, Missing::Empty).program.residual, "", "a name that is bound may be used anywhere");
    assert_eq!(compiled(&reference()).program.residual, "", "the reference message");
}

/// The engine's word about a block, in a message that skips who lacks what it prints.
fn by_the_engine(block: &str, person: &Person) -> Result<String, minijinja::ErrorKind> {
    let env = crate::content::env::environment(Missing::Skip);
    crate::content::env::begin(crate::content::locale::Language::En, "");
    env.render_named_str("b.html", block, person.jinja()).map_err(|error| error.kind())
}

#[test]
fn who_lacks_what_is_used_is_skipped_where_the_engine_would() {
    let (mut skipped, mut sent) = (0, 0);
    for block in BLOCKS {
        let message = message(block, Missing::Skip);
        assert_eq!(message.program.residual, "", "{block}");
        let points = [None, Some(0.0), Some(7.0), Some(99.5)];
        for (number, points) in points.into_iter().enumerate() {
            for lists in [None, Some(vec![]), Some(vec!["a".to_owned(), "z & y".to_owned(), "z".to_owned()])] {
                for lacking in ["", "city", "plan", "first_name", "company"] {
                    let mut who = Person { points, interests: lists.clone(), ..person() };
                    who.texts.remove(lacking);
                    if number % 2 == 1 {
                        who.texts.insert("city", String::new());
                    }
                    let expected = by_the_engine(block, &who);
                    let rendered = render(&message, &who.record(&schema()));
                    match (expected, rendered) {
                        (Ok(expected), Ok((bytes, _))) => {
                            let parsed = MessageParser::default().parse(&bytes).expect("parses");
                            let html = body(&parsed, true);
                            let expected = format!("<p>{expected}</p>");
                            assert!(html.starts_with(&expected), "{block}\n{html}\n{expected}");
                            sent += 1;
                        }
                        (Err(minijinja::ErrorKind::UndefinedError), Err(skip)) => {
                            assert_eq!(skip.reason, SkipReason::MissingAttribute, "{block}: {skip}");
                            skipped += 1;
                        }
                        (expected, rendered) => panic!("{block} for {who:?}: {expected:?}, but {rendered:?}"),
                    }
                }
            }
        }
    }
    assert!(skipped > 50 && sent > 100, "both happen: {skipped} skipped, {sent} sent");
}

#[test]
fn loops_in_loops_end() {
    let block = "{% for a in contact.interests %}".repeat(4) + "x" + &"{% endfor %}".repeat(4);
    let message = message(&block, Missing::Empty);
    assert_eq!(message.program.residual, "", "native");
    let who = Person { interests: Some(vec![String::new(); 200]), ..person() };
    let error = render(&message, &who.record(&schema())).expect_err("1 600 million turns");
    assert_eq!(error.reason, SkipReason::OutOfFuel);
}
