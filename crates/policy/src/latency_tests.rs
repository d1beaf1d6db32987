//! Tests of the latency buckets and the window over them.

use proptest::prelude::*;

use super::*;

/// Totals that grow, and a window that sees them each 100 ms.
struct Feed {
    totals: Counts,
    window: LatencyWindow,
    now: Moment,
}

impl Feed {
    fn new() -> Feed {
        let mut feed = Feed { totals: [0; BUCKETS], window: LatencyWindow::new(), now: Moment::from_millis(500) };
        feed.window.advance(&feed.totals, feed.now);
        feed
    }

    /// `seconds` in which `rate` answers a second take `us`.
    fn run(&mut self, seconds: u64, rate: u64, us: u64) {
        for tick in 0..seconds * 10 {
            self.totals[bucket_of(us)] += (tick + 1) * rate / 10 - tick * rate / 10;
            self.now = self.now + std::time::Duration::from_millis(100);
            self.window.advance(&self.totals, self.now);
        }
    }
}

#[test]
fn buckets_have_the_edges_that_the_header_says() {
    let table = [(0, 0), (63, 0), (64, 1), (79, 1), (80, 2), (127, 4), (128, 5), (1_000, 16), (100_000, 43)];
    for (us, bucket) in table {
        assert_eq!(bucket_of(us), bucket, "{us} us");
    }
    assert_eq!((bucket_of((1 << 26) - 1), bucket_of(1 << 26), bucket_of(u64::MAX)), (80, 81, 81));
    assert_eq!((upper_us(0), upper_us(1), upper_us(80)), (63, 79, (1 << 26) - 1));
    for bucket in 0..BUCKETS {
        assert_eq!(bucket_of(upper_us(bucket)), bucket);
        assert!(bucket == BUCKETS - 1 || bucket_of(upper_us(bucket) + 1) == bucket + 1);
    }
    assert_eq!(upper_us(BUCKETS), upper_us(BUCKETS - 1));
}

#[test]
fn a_window_says_nothing_before_it_knows() {
    let mut window = LatencyWindow::new();
    let mut totals = [7; BUCKETS];
    window.advance(&totals, Moment::ZERO);
    assert_eq!((window.quantile(0.5), window.past_quantile(0.5)), (None, None), "the first totals are no answers");
    totals[bucket_of(2_000)] += FEW - 1;
    window.advance(&totals, Moment::from_millis(100));
    assert_eq!(window.quantile(0.5), None);
    totals[bucket_of(2_000)] += 1;
    window.advance(&totals, Moment::from_millis(200));
    assert_eq!(window.quantile(0.5), Some(upper_us(bucket_of(2_000))));
}

#[test]
fn it_follows_a_change_at_20_and_at_5000_a_second() {
    for rate in [20, 5_000] {
        let mut feed = Feed::new();
        feed.run(30, rate, 2_000);
        feed.run(11, rate, 400_000);
        assert_eq!(feed.window.quantile(0.01), Some(upper_us(bucket_of(400_000))), "{rate}/s");
        assert_eq!(feed.window.past_quantile(0.5), Some(upper_us(bucket_of(2_000))), "{rate}/s");
    }
}

#[test]
fn the_newest_seconds_show_a_change_that_the_window_does_not_show_yet() {
    let mut feed = Feed::new();
    feed.run(20, 200, 2_000);
    feed.run(2, 200, 300_000);
    let mut latest = [0; BUCKETS];
    let (seconds, total) = feed.window.add_latest(20, &mut latest);
    assert!(seconds <= 2 && total >= 20);
    assert_eq!(quantile(&latest, 0.5), Some(upper_us(bucket_of(300_000))));
    assert_eq!(feed.window.quantile(0.5), Some(upper_us(bucket_of(2_000))));
}

#[test]
fn at_one_a_second_it_reaches_back_a_minute() {
    let mut feed = Feed::new();
    feed.run(60, 1, 5_000);
    let mut counts = [0; BUCKETS];
    let total = feed.window.add_recent(&mut counts);
    assert!((50..=60).contains(&total), "{total}");
    assert_eq!(feed.window.quantile(0.99), Some(upper_us(bucket_of(5_000))));
}

#[test]
fn after_a_pause_it_is_cold_and_the_past_is_as_it_was() {
    let mut feed = Feed::new();
    feed.run(60, 50, 5_000);
    feed.now = feed.now + std::time::Duration::from_secs(86_400);
    feed.window.advance(&feed.totals, feed.now);
    assert_eq!(feed.window.quantile(0.5), None);
    assert_eq!(feed.window.past_quantile(0.5), Some(upper_us(bucket_of(5_000))));
}

#[test]
fn ten_minutes_of_another_speed_change_the_past() {
    let mut feed = Feed::new();
    feed.run(600, 50, 2_000);
    feed.run(300, 50, 200_000);
    assert_eq!(feed.window.past_quantile(0.5), Some(upper_us(bucket_of(2_000))));
    feed.run(300, 50, 200_000);
    assert_eq!(feed.window.past_quantile(0.5), Some(upper_us(bucket_of(200_000))));
}

#[test]
fn totals_that_shrink_are_no_answers() {
    let mut window = LatencyWindow::new();
    window.advance(&[1_000; BUCKETS], Moment::ZERO);
    window.advance(&[0; BUCKETS], Moment::from_millis(100));
    let mut counts = [0; BUCKETS];
    assert_eq!(window.add_recent(&mut counts), 0);
}

proptest! {
    #[test]
    fn a_bucket_holds_what_it_says_and_is_a_quarter_wide_at_most(us in 64..(1u64 << 26)) {
        let upper = upper_us(bucket_of(us));
        prop_assert!(us <= upper && upper - us <= us / 4, "{} in {}", us, upper);
        prop_assert!(bucket_of(us) <= bucket_of(us + 1));
    }

    #[test]
    fn the_window_holds_exactly_what_came_in_its_time(steps in prop::collection::vec((0..15_000u64, 0..BUCKETS, 0..300u64), 1..80)) {
        let (mut window, mut totals, mut now) = (LatencyWindow::new(), [0; BUCKETS], Moment::from_millis(77_000));
        window.advance(&totals, now);
        let mut came = Vec::new();
        for (millis, bucket, n) in steps {
            now = Moment::from_millis(now.as_millis() + millis);
            totals[bucket] += n;
            window.advance(&totals, now);
            came.push((now.as_millis() / 1000, bucket, n));
            let second = now.as_millis() / 1000;
            let mut expected = [0; BUCKETS];
            came.iter().filter(|(at, _, _)| at + 10 > second).for_each(|(_, bucket, n)| expected[*bucket] += n);
            let mut counts = [0; BUCKETS];
            let total = window.add_seconds(FINE, &mut counts);
            prop_assert_eq!(counts, expected);
            prop_assert_eq!(total, expected.iter().sum::<u64>());
            let mut wide = [0; BUCKETS];
            let wide_total = window.add_recent(&mut wide);
            let minute: u64 = came.iter().filter(|(at, _, _)| at + 61 > second).map(|(_, _, n)| n).sum();
            prop_assert!(wide_total >= total && wide_total <= minute, "{} of {}", wide_total, minute);
            prop_assert_eq!(wide.iter().sum::<u64>(), wide_total);
        }
    }
}
