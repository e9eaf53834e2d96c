//! Who does what when: the readers' clock, their visits, and their account.
//!
//! Owns the place in the file of mails, the queue of what is due, and the visits on their way; runs on one thread.
//! Invariants: 1. the steps of one mail are done one after the other, those of different mails beside each other; 2. a visit
//! that is not answered as it should be ends what its reader had in mind, and is counted; 3. it ends when the expected mails were read
//! and nothing is due, or with an error when its patience is over.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, HashSet};
use std::sync::PoisonError;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use reqwest::{Client, Method};
use tokio::task::JoinSet;

use super::count::{Count, VariantCount};
use super::events::{self, EVENTS_AT_ONCE, Event, Kind};
use super::letter::{self, Letter};
use super::person::{self, Act, Face, Since, Step};
use super::{Common, NOBODY_READS, ReadersOptions, UNKNOWN, VISITS_AT_ONCE};
use crate::sink::mails::{Mail, MailReader, unix_ms};

/// Time between two looks at the file of mails.
const LOOK_EVERY: Duration = Duration::from_millis(25);
/// Failures that are quoted.
const FAILURES_QUOTED: usize = 5;
const VISIT_TIMEOUT: Duration = Duration::from_secs(30);
/// What an Apple device behind the privacy proxy says of itself.
const PREFETCH_AGENT: &str = "Mozilla/5.0";

/// What a reader still has in mind for one mail; the next step is the last of `left`.
#[derive(Debug)]
struct Errand {
    variant: usize,
    message_id: String,
    face: Face,
    accepted: Instant,
    left: Vec<Step>,
}

/// What came back from the outside.
enum Done {
    Visit { errand: Errand, act: Act, outcome: Result<(), String> },
    Events { sent: Vec<Event>, outcome: Result<Vec<Result<(), String>>, String> },
}

struct Office<'a> {
    options: &'a ReadersOptions,
    http: Client,
    reader: Option<MailReader>,
    seen: HashSet<String>,
    due: BinaryHeap<Reverse<(Instant, u64)>>,
    errands: HashMap<u64, Errand>,
    next_errand: u64,
    outbox: Vec<Event>,
    on_the_way: JoinSet<Done>,
    count: Count,
}

/// Reads until the expected mails are done with.
pub(super) fn run(options: &ReadersOptions, common: &Common) -> anyhow::Result<Count> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("starting the runtime")?;
    tokio::task::LocalSet::new().block_on(&runtime, async {
        let mut office = Office::new(options)?;
        let mut asked_at: Option<Instant> = None;
        loop {
            office.take_mails()?;
            office.do_what_is_due();
            office.send_events();
            office.take_answers().await;
            *common.count.lock().unwrap_or_else(PoisonError::into_inner) = office.count.clone();
            let expected = common.expected.load(Ordering::Acquire);
            if expected == UNKNOWN {
                continue;
            }
            if office.count.mails >= expected && office.is_idle() {
                // One more look: a mail beyond those expected is worth knowing.
                office.take_mails()?;
                ensure!(office.count.mails == expected, "{} mails came and not {expected}", office.count.mails);
                return Ok(office.count);
            }
            if asked_at.get_or_insert_with(Instant::now).elapsed() > options.patience {
                let (count, left) = (&office.count, office.errands.len() + office.on_the_way.len());
                bail!("{} of {expected} mails were read, {left} errands are left: {:?}", count.mails, count.failures);
            }
        }
    })
}

impl<'a> Office<'a> {
    fn new(options: &'a ReadersOptions) -> anyhow::Result<Office<'a>> {
        let builder = Client::builder().no_proxy().redirect(reqwest::redirect::Policy::none());
        let http = builder.timeout(VISIT_TIMEOUT).build().context("building the HTTP client")?;
        let mut count = Count::default();
        for taste in &options.truth.variants {
            count.variants.insert(taste.name.clone(), VariantCount::default());
        }
        Ok(Office {
            options,
            http,
            reader: None,
            seen: HashSet::new(),
            due: BinaryHeap::new(),
            errands: HashMap::new(),
            next_errand: 0,
            outbox: Vec::new(),
            on_the_way: JoinSet::new(),
            count,
        })
    }

    fn is_idle(&self) -> bool {
        self.errands.is_empty() && self.outbox.is_empty() && self.on_the_way.is_empty()
    }

    fn take_mails(&mut self) -> anyhow::Result<()> {
        if self.reader.is_none() && self.options.mails.exists() {
            self.reader = Some(MailReader::open(&self.options.mails).context("opening the mails")?);
        }
        let Some(reader) = &mut self.reader else { return Ok(()) };
        for mail in reader.next_mails().context("reading the mails")? {
            self.take_mail(&mail);
        }
        Ok(())
    }

    fn take_mail(&mut self, mail: &Mail) {
        self.count.mails += 1;
        let Some(letter) = Letter::read(&mail.source) else {
            self.count.unreadable += 1;
            return;
        };
        if !self.seen.insert(format!("{} {}", letter.message_id, mail.recipient)) {
            self.count.duplicates += 1;
            return;
        }
        let truth = &self.options.truth;
        let Some(variant) = truth.variant(&letter.subject) else {
            self.count.unknown += 1;
            return;
        };
        self.of(variant).mails += 1;
        let mut left = person::steps(truth, variant, &mail.recipient, &letter);
        left.reverse();
        let face = person::face(truth.seed, &mail.recipient);
        let accepted = instant_of(mail.accepted_ms);
        self.plan(Errand { variant, message_id: letter.message_id, face, accepted, left });
    }

    /// Puts an errand's next step into the queue, if it has one.
    fn plan(&mut self, errand: Errand) {
        let Some(step) = errand.left.last() else { return };
        let at = match step.since {
            Since::Acceptance => errand.accepted + step.wait,
            Since::AcceptanceAndQuiet => (errand.accepted + step.wait).max(Instant::now() + self.quiet()),
            Since::Before => Instant::now() + step.wait,
        };
        let id = self.next_errand;
        self.next_errand += 1;
        self.due.push(Reverse((at, id)));
        self.errands.insert(id, errand);
    }

    /// How long a person keeps away after the machines of the mailbox.
    fn quiet(&self) -> Duration {
        let machines = self.options.truth.machines;
        let any = machines.prefetch + machines.scanners + machines.heads > 0.0;
        if any { NOBODY_READS } else { Duration::ZERO }
    }

    fn do_what_is_due(&mut self) {
        let now = Instant::now();
        while self.on_the_way.len() < VISITS_AT_ONCE {
            match self.due.peek() {
                Some(Reverse((at, _))) if *at <= now => {}
                _ => return,
            }
            let Some(Reverse((_, id))) = self.due.pop() else { return };
            if let Some(mut errand) = self.errands.remove(&id)
                && let Some(step) = errand.left.pop()
            {
                self.act(errand, step.act);
            }
        }
    }

    fn act(&mut self, errand: Errand, act: Act) {
        let kind = match act {
            Act::Delivered => Kind::Delivered,
            Act::Bounced => Kind::Bounced,
            Act::Converted => Kind::Converted,
            Act::Complained => Kind::Complained,
            _ => return self.visit(errand, act),
        };
        self.outbox.push(Event { kind, variant: errand.variant, message_id: errand.message_id.clone() });
        self.plan(errand);
    }

    fn visit(&mut self, errand: Errand, act: Act) {
        let (method, url, agent) = match &act {
            Act::Prefetch(url) => (Method::GET, url, PREFETCH_AGENT),
            Act::Head(url) => (Method::HEAD, url, errand.face.agent),
            Act::Unsubscribe(url) => (Method::POST, url, errand.face.agent),
            Act::Open(url) | Act::Click(url) | Act::Scan(url) => (Method::GET, url, errand.face.agent),
            Act::Delivered | Act::Bounced | Act::Converted | Act::Complained => return,
        };
        let url = format!("http://{}{}", self.options.public, letter::path(url));
        let mut request = self.http.request(method.clone(), url);
        request = request.header("user-agent", agent).header("x-forwarded-for", &errand.face.address);
        if method == Method::POST {
            let body = "List-Unsubscribe=One-Click";
            request = request.header("content-type", "application/x-www-form-urlencoded").body(body);
        }
        self.on_the_way.spawn_local(async move {
            let outcome = answer(request, &act).await.map_err(|error| format!("{error:#}"));
            Done::Visit { errand, act, outcome }
        });
    }

    fn send_events(&mut self) {
        let Some(api) = &self.options.api else {
            // Nothing but deliveries can be here, and nobody asked for them.
            self.outbox.clear();
            return;
        };
        while !self.outbox.is_empty() && self.on_the_way.len() < VISITS_AT_ONCE {
            let sent: Vec<Event> = self.outbox.drain(..self.outbox.len().min(EVENTS_AT_ONCE)).collect();
            let (http, api) = (self.http.clone(), api.clone());
            self.on_the_way.spawn_local(async move {
                let outcome = events::send(&http, &api, &sent).await.map_err(|error| format!("{error:#}"));
                Done::Events { sent, outcome }
            });
        }
    }

    /// Waits for answers until the next look at the mails is due, or something else is.
    async fn take_answers(&mut self) {
        let now = Instant::now();
        let next = self.due.peek().map_or(now + LOOK_EVERY, |Reverse((at, _))| (*at).min(now + LOOK_EVERY));
        let full = self.on_the_way.len() >= VISITS_AT_ONCE;
        let wait = if full { LOOK_EVERY } else { next.saturating_duration_since(now).max(Duration::from_millis(1)) };
        if self.on_the_way.is_empty() {
            tokio::time::sleep(wait).await;
        } else if let Ok(Some(Ok(done))) = tokio::time::timeout(wait, self.on_the_way.join_next()).await {
            self.take_answer(done);
        }
        while let Some(Ok(done)) = self.on_the_way.try_join_next() {
            self.take_answer(done);
        }
    }

    fn take_answer(&mut self, done: Done) {
        match done {
            Done::Visit { errand, act, outcome: Ok(()) } => {
                self.count.requests += 1;
                self.of(errand.variant).visited(&act);
                self.plan(errand);
            }
            Done::Visit { outcome: Err(why), .. } => self.fails(why),
            Done::Events { sent, outcome: Ok(results) } => {
                for (event, result) in sent.into_iter().zip(results) {
                    match result {
                        Ok(()) => self.of(event.variant).told(event.kind),
                        Err(why) => self.fails(why),
                    }
                }
            }
            Done::Events { outcome: Err(why), .. } => self.fails(why),
        }
    }

    fn of(&mut self, variant: usize) -> &mut VariantCount {
        let name = self.options.truth.variants.get(variant).map(|taste| taste.name.clone()).unwrap_or_default();
        self.count.variants.entry(name).or_default()
    }

    fn fails(&mut self, why: String) {
        self.count.failed += 1;
        if self.count.failures.len() < FAILURES_QUOTED {
            self.count.failures.push(why);
        }
    }
}

impl VariantCount {
    fn visited(&mut self, act: &Act) {
        match act {
            Act::Prefetch(_) => self.machine_opens += 1,
            Act::Scan(_) | Act::Head(_) => self.machine_clicks += 1,
            Act::Open(_) => self.opened += 1,
            Act::Click(url) => {
                self.clicked += 1;
                *self.links.entry(letter::index(url)).or_default() += 1;
            }
            Act::Unsubscribe(_) => self.unsubscribed += 1,
            Act::Delivered | Act::Bounced | Act::Converted | Act::Complained => {}
        }
    }

    fn told(&mut self, kind: Kind) {
        *match kind {
            Kind::Delivered => &mut self.delivered,
            Kind::Bounced => &mut self.bounced,
            Kind::Converted => &mut self.converted,
            Kind::Complained => &mut self.complained,
        } += 1;
    }
}

/// Demands the answer that the act must get: a redirect for a link, 200 for all else.
async fn answer(request: reqwest::RequestBuilder, act: &Act) -> anyhow::Result<()> {
    let answer = request.send().await.with_context(|| format!("{act:?}"))?;
    let wanted = if matches!(act, Act::Click(_) | Act::Scan(_) | Act::Head(_)) { 302 } else { 200 };
    let status = answer.status().as_u16();
    ensure!(status == wanted, "{act:?} was answered with {status} and not {wanted}");
    answer.bytes().await.with_context(|| format!("the answer to {act:?}"))?;
    Ok(())
}

/// A Unix time on this process's clock.
fn instant_of(accepted_ms: u64) -> Instant {
    let now = Instant::now();
    now.checked_sub(Duration::from_millis(unix_ms().saturating_sub(accepted_ms))).unwrap_or(now)
}
