//! Who makes the request that is being served: what is recorded where somebody gives their word.
//!
//! Owns a task-local value, set by the guard once the key is known and carried to the blocking thread, so that no operation of the
//! port has to hand it on. Invariants: CR-1 the key's id names the key and gives nothing of it away: it is the beginning of the
//! hash that is stored anyway; CR-2 outside a request (a library, the demo) the caller is [`Caller::default`].

use tokio::task_local;

/// The name of the one key that may change things.
pub const ADMIN: &str = "admin";

/// Agents of the command line begin so.
const CLI_AGENT: &str = "estafette/";

/// Who asks, and by what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// Name of the key.
    pub name: &'static str,
    /// Id of the key: another key of the same name, after a change of it, has another one. Empty outside a request.
    pub key: String,
    /// `api`, `cli` (the program's own command line, by what it calls itself), `library` outside a request.
    pub via: &'static str,
}

impl Default for Caller {
    fn default() -> Caller {
        Caller { name: ADMIN, key: String::new(), via: "library" }
    }
}

impl Caller {
    /// The caller of a request that came with the admin key of this id.
    pub fn of_request(key: String, agent: Option<&str>) -> Caller {
        let via = if agent.is_some_and(|agent| agent.starts_with(CLI_AGENT)) { "cli" } else { "api" };
        Caller { name: ADMIN, key, via }
    }
}

task_local! {
    static CALLER: Caller;
}

/// The caller of the request that this task, or this blocking call, serves.
pub fn current() -> Caller {
    CALLER.try_with(Clone::clone).unwrap_or_default()
}

/// Serves `request` on behalf of `caller`.
pub async fn serving<F: Future>(caller: Caller, request: F) -> F::Output {
    CALLER.scope(caller, request).await
}

/// `work` with the caller of the task that makes it, wherever it is run.
pub fn carried<T>(work: impl FnOnce() -> T) -> impl FnOnce() -> T {
    let caller = CALLER.try_with(Clone::clone).ok();
    move || match caller {
        Some(caller) => CALLER.sync_scope(caller, work),
        None => work(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_caller_is_known_in_its_task_and_on_the_thread_that_works_for_it() {
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        let ada = Caller::of_request("0a1b2c3d".into(), Some("estafette/0.1.0"));
        let by = runtime.block_on(serving(ada.clone(), async {
            let work = carried(current);
            (current(), std::thread::spawn(work).join().expect("it ends"))
        }));
        assert_eq!(by, (ada.clone(), ada), "both");
        assert_eq!((current(), carried(current)()), (Caller::default(), Caller::default()), "and nowhere else");
        assert_eq!(Caller::of_request(String::new(), Some("curl/8")).via, "api");
    }
}
