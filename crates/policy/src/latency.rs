//! How long answers take: log-scaled buckets that many writers can share, and a window over them.
//!
//! **Buckets.** 82 of them, four to an octave from 64 us to 67 s, one below and one above; the same subdivision as an
//! HDR histogram with two significant bits. A quantile is the upper end of the bucket that it falls in, so it is at
//! most a quarter too high and never too low (but for what lies beyond the last bucket).
//!
//! **Window.** It is fed with totals that only grow and keeps what was added since the last time:
//!
//! ```text
//! slices of 1 s    the last 10 s                     recent, latest
//! slices of 10 s   the 50 s before                   reached for when the last 10 s hold too little
//! past             everything older than 10 to 20 s, losing two thirds of its weight in ten minutes of traffic
//! ```
//! At 20 requests/s the last 10 s hold 200 answers, at 5,000 they hold 50,000; at 1/s the window reaches back a minute.
//! Windows that are advanced at the same moments have slices that begin at the same moments, so they can be added up
//! and compared.
//!
//! **Cold.** The first totals are only what later ones are compared with. Until enough was seen the answer is `None`:
//! [`FEW`] answers for the window, [`PAST_FEW`] for the past. After a pause of more than a minute the window is cold
//! again; the past stays as it was.
//!
//! It does not know what an answer was; failures are not among them.

use kernel::Moment;

/// How many buckets there are.
pub const BUCKETS: usize = 82;
/// Answers by bucket.
pub type Counts = [u64; BUCKETS];

/// Fewer answers than this say nothing about a service.
pub const FEW: u64 = 20;
/// Enough for a p99 that is not just the largest: the window reaches back a minute for so many. Of 150 answers of which
/// each is slow with a chance of 5 %, fewer than two are slow once in two hundred times.
pub const TAIL_ENOUGH: u64 = 150;
/// Fewer answers than this are no past.
pub const PAST_FEW: f32 = 50.0;

/// Slices of 1 s.
const FINE: usize = 10;
/// Slices of 10 s.
const COARSE: usize = 5;
/// After so many new slices nothing of what was is left in the window, and all of it is in the past.
const FLUSH: u64 = 80;
/// What remains of the past's weight after ten seconds: e^-(10/600).
const PAST_KEPT: f32 = 0.983_5;

/// The bucket of a time. Without branches: it runs once per request.
#[inline]
pub const fn bucket_of(us: u64) -> usize {
    // Everything below 64 us is taken for 56, whose two bits after the first make it the quarter before that of 64.
    let us = if us < 56 { 56 } else { us };
    let octave = 63 - us.leading_zeros() as usize;
    let quarter = (us >> (octave - 2)) as usize & 3;
    let bucket = 4 * octave + quarter - 23;
    if bucket < BUCKETS { bucket } else { BUCKETS - 1 }
}

/// The longest time of a bucket. That of the last one is where the next would begin, less 1; it takes all above, too.
pub const fn upper_us(bucket: usize) -> u64 {
    let next = if bucket < BUCKETS { bucket } else { BUCKETS - 1 } + 24;
    ((4 + (next & 3) as u64) << (next / 4 - 2)) - 1
}

/// The time below or at which the share `q` (0 to 1) of the answers came; `None` if there are none.
pub fn quantile(counts: &Counts, q: f64) -> Option<u64> {
    let total: u64 = counts.iter().sum();
    if total == 0 {
        return None;
    }
    let rank = ((total as f64 * q).ceil() as u64).clamp(1, total);
    let mut sum = 0;
    counts
        .iter()
        .position(|n| {
            sum += n;
            sum >= rank
        })
        .map(upper_us)
}

/// What was added to growing totals lately, and what they were made of before.
#[derive(Clone, Debug)]
pub struct LatencyWindow {
    /// The totals of the last time; `None` before the first.
    last: Option<Box<Counts>>,
    /// Which second is being filled, counted from the clock's origin.
    second: u64,
    /// Which ten seconds were last added to.
    ten: u64,
    fine: [[u32; BUCKETS]; FINE],
    coarse: [[u32; BUCKETS]; COARSE],
    /// The sum of `fine`.
    recent: [u32; BUCKETS],
    recent_total: u64,
    past: [f32; BUCKETS],
    past_total: f32,
}

impl Default for LatencyWindow {
    fn default() -> LatencyWindow {
        LatencyWindow::new()
    }
}

impl LatencyWindow {
    /// A window that has seen nothing.
    pub const fn new() -> LatencyWindow {
        LatencyWindow {
            last: None,
            second: 0,
            ten: 0,
            fine: [[0; BUCKETS]; FINE],
            coarse: [[0; BUCKETS]; COARSE],
            recent: [0; BUCKETS],
            recent_total: 0,
            past: [0.0; BUCKETS],
            past_total: 0.0,
        }
    }

    /// Takes in the totals as they are now. Totals that shrank are a new beginning of those buckets.
    pub fn advance(&mut self, totals: &Counts, now: Moment) {
        self.turn(now);
        let Some(last) = &mut self.last else {
            self.last = Some(Box::new(*totals));
            return;
        };
        let slice = &mut self.fine[(self.second % FINE as u64) as usize];
        for ((last, now), (slice, recent)) in
            last.iter_mut().zip(totals).zip(slice.iter_mut().zip(self.recent.iter_mut()))
        {
            let added = now.saturating_sub(*last).min(u64::from(u32::MAX - *recent)) as u32;
            *last = *now;
            *slice += added;
            *recent += added;
            self.recent_total += u64::from(added);
        }
    }

    /// Adds the answers of the last 10 s to `into`, and of up to the last minute if these are few. Returns how many.
    pub fn add_recent(&self, into: &mut Counts) -> u64 {
        add(into, &self.recent);
        let mut total = self.recent_total;
        for back in 0..COARSE as u64 {
            if total >= TAIL_ENOUGH || back > self.ten {
                break;
            }
            total += add(into, &self.coarse[((self.ten - back) % COARSE as u64) as usize]);
        }
        total
    }

    /// A quantile of the last 10 s, or of up to the last minute at low rates; `None` below [`FEW`] answers.
    pub fn quantile(&self, q: f64) -> Option<u64> {
        let mut counts = [0; BUCKETS];
        (self.add_recent(&mut counts) >= FEW).then(|| quantile(&counts, q)).flatten()
    }

    /// Adds the newest answers to `into`: as many whole seconds as hold `enough`, at most ten. Returns how many seconds
    /// and how many answers.
    pub fn add_latest(&self, enough: u64, into: &mut Counts) -> (usize, u64) {
        if self.recent_total == 0 {
            return (FINE, 0);
        }
        let mut total = 0;
        for back in 0..FINE {
            total += self.add_second(back, into);
            if total >= enough {
                return (back + 1, total);
            }
        }
        (FINE, total)
    }

    /// Adds the answers of the newest `seconds` slices to `into`. Returns how many.
    pub fn add_seconds(&self, seconds: usize, into: &mut Counts) -> u64 {
        (0..seconds.min(FINE)).map(|back| self.add_second(back, into)).sum()
    }

    /// A quantile of what was before the last 10 s; `None` while that is too little to speak of.
    pub fn past_quantile(&self, q: f64) -> Option<u64> {
        if self.past_total < PAST_FEW {
            return None;
        }
        let (rank, mut sum) = (self.past_total * q as f32, 0.0);
        let bucket = self.past.iter().position(|n| {
            sum += n;
            sum >= rank
        });
        Some(upper_us(bucket.unwrap_or(BUCKETS - 1)))
    }

    /// Adds `n` answers that are in no totals, such as requests that were given up after so long.
    pub fn note(&mut self, us: u64, n: u32) {
        let bucket = bucket_of(us);
        let n = n.min(u32::MAX - self.recent[bucket]);
        self.fine[(self.second % FINE as u64) as usize][bucket] += n;
        self.recent[bucket] += n;
        self.recent_total += u64::from(n);
    }

    /// Forgets the last 10 s: what was then is no longer so. The past stays.
    pub fn restart(&mut self) {
        self.fine = [[0; BUCKETS]; FINE];
        self.recent = [0; BUCKETS];
        self.recent_total = 0;
    }

    fn add_second(&self, back: usize, into: &mut Counts) -> u64 {
        match self.second.checked_sub(back as u64) {
            Some(second) => add(into, &self.fine[(second % FINE as u64) as usize]),
            None => 0,
        }
    }

    /// Begins the slice of `now`; what is older than the fine slices goes to the coarse ones.
    fn turn(&mut self, now: Moment) {
        let target = now.as_millis() / 1000;
        if self.last.is_none() {
            (self.second, self.ten) = (target, target.saturating_sub(FINE as u64) / 10);
        }
        let until = target.min(self.second.saturating_add(FLUSH));
        while self.second < until {
            self.second += 1;
            self.leave(self.second);
        }
        self.second = self.second.max(target);
    }

    /// Empties the slice that `second` is to fill. It holds the second ten before.
    fn leave(&mut self, second: u64) {
        let Some(gone) = second.checked_sub(FINE as u64) else {
            return;
        };
        let ten = gone / 10;
        if ten > self.ten {
            // The ten seconds before are complete.
            let complete = &self.coarse[(self.ten % COARSE as u64) as usize];
            self.past_total = 0.0;
            for (past, added) in self.past.iter_mut().zip(complete) {
                *past = *past * PAST_KEPT + *added as f32;
                self.past_total += *past;
            }
            self.ten = ten;
            self.coarse[(ten % COARSE as u64) as usize] = [0; BUCKETS];
        }
        let fine = &mut self.fine[(second % FINE as u64) as usize];
        let coarse = &mut self.coarse[(ten % COARSE as u64) as usize];
        for ((fine, coarse), recent) in fine.iter_mut().zip(coarse).zip(self.recent.iter_mut()) {
            *coarse = coarse.saturating_add(*fine);
            *recent -= *fine;
            self.recent_total -= u64::from(*fine);
            *fine = 0;
        }
    }
}

fn add(into: &mut Counts, slice: &[u32; BUCKETS]) -> u64 {
    let mut total = 0;
    for (into, n) in into.iter_mut().zip(slice) {
        *into += u64::from(*n);
        total += u64::from(*n);
    }
    total
}

#[cfg(test)]
#[path = "latency_tests.rs"]
mod tests;
