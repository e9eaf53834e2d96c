//! Cases of the open loop: a server that stops, one that cannot keep up, one that fails.

use std::cell::Cell;

use super::*;

fn options(load: &str, seconds: f64, warm_up: f64, in_flight: usize) -> LoopOptions {
    let arrivals = load.parse().unwrap();
    LoopOptions { arrivals, seconds, warm_up, in_flight, patience: 5.0, seed: 1 }
}

#[test]
fn a_stall_is_charged_to_all_who_waited() {
    // One worker, and the server sleeps 500 ms at one request of two seconds of 100 a second: a closed loop would show one slow
    // request, and in truth some fifty waited.
    let result = run(&options("constant:100", 2.0, 0.0, 1), |_| {
        async |n| {
            if n == 20 {
                tokio::time::sleep(Duration::from_millis(500)).await;
            }
            Ok(())
        }
    })
    .unwrap();
    assert_eq!((result.planned, result.answered, result.failed, result.given_up), (200, 200, 0, 0));
    assert!(result.response.p90_ms >= 200.0, "those who waited count: {:?}", result.response);
    assert!(result.service.p90_ms < 200.0, "as a closed loop would have shown it: {:?}", result.service);
    assert!(result.response.max_ms >= 500.0 && result.service.max_ms >= 500.0, "both see the slow one");
}

#[test]
fn the_warm_up_is_asked_and_not_counted() {
    let asked = Rc::new(Cell::new(0));
    let asks = Rc::clone(&asked);
    let result = run(&options("constant:50", 3.0, 1.0, 4), move |_| {
        let asks = Rc::clone(&asks);
        async move |n| {
            asks.set(asks.get() + 1);
            // Slow and failing, if it were counted.
            if n < 50 {
                tokio::time::sleep(Duration::from_millis(10)).await;
                anyhow::bail!("cold");
            }
            Ok(())
        }
    })
    .unwrap();
    assert_eq!(asked.get(), 150, "all are asked");
    assert_eq!((result.planned, result.answered, result.failed), (100, 100, 0), "two seconds count");
    assert_eq!(
        result.series.iter().map(|s| (s.warm_up, s.planned)).collect::<Vec<_>>(),
        [(true, 50), (false, 50), (false, 50)]
    );
    assert_eq!((result.series[0].failed, result.planned_per_second), (50, 50.0));
    assert_eq!(result.lateness.count, 100, "the generator's lateness is told: {:?}", result.lateness);
}

#[test]
fn failures_and_those_given_up_are_counted() {
    let mut options = options("constant:100", 1.0, 0.0, 2);
    options.patience = 0.1;
    let result = run(&options, |_| {
        async |n| match n {
            0..10 => anyhow::bail!("refused"),
            // Two workers, and both never come back from these.
            90.. => std::future::pending().await,
            _ => Ok(()),
        }
    })
    .unwrap();
    assert_eq!((result.planned, result.failed, result.answered, result.given_up), (100, 10, 80, 10));
    assert_eq!(result.errors, ["refused"], "each error once");
}
