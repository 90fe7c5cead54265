//! The table, and the ratios below it.

use crate::contender::Contender;
use crate::throughput::Look;

/// What one contender's answers cost in one round.
#[derive(Clone, Copy, Debug)]
pub struct Cost {
    /// Answers per second.
    pub rate: f64,
    /// Microseconds of the contender's CPU for each answer.
    pub cpu: f64,
    /// The contender's largest memory, in MiB.
    pub peak: f64,
    /// Microseconds of the broker's CPU for each answer, where it can be told.
    pub broker: Option<f64>,
    /// Microseconds of the simulator's CPU for each answer.
    pub simulator: f64,
}

/// Two measurements, one after the other.
pub struct Round {
    pub thin: Cost,
    pub worker: Cost,
}

impl Cost {
    /// Of what happened between two looks.
    pub fn between(from: &Look, to: &Look, peak: u64) -> Self {
        let answers = f64::from(to.answers - from.answers).max(1.0);
        let each = |from, to: std::time::Duration| to.saturating_sub(from).as_secs_f64() * 1e6 / answers;
        Self {
            rate: answers / (to.at - from.at).as_secs_f64(),
            cpu: each(from.contender, to.contender),
            peak: mebibytes(peak),
            broker: from.broker.zip(to.broker).map(|(from, to)| each(from, to)),
            simulator: each(from.simulator, to.simulator),
        }
    }
}

/// Bytes as MiB.
#[expect(clippy::cast_precision_loss, reason = "memory is far below 2^52 bytes")]
pub fn mebibytes(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

pub fn print_heading() {
    println!("                           its CPU,  peak RSS,    the broker's,  the simulator's");
    println!("round  who     requests/s  µs each        MiB   CPU, µs each    CPU, µs each");
}

pub fn print(round: u16, contender: Contender, cost: &Cost) {
    let Cost { rate, cpu, peak, simulator, .. } = cost;
    let broker = cost.broker.map_or_else(|| "?".to_owned(), |broker| format!("{broker:.0}"));
    println!("{round:>5}  {contender:<6} {rate:>11.0} {cpu:>8.0} {peak:>10.1} {broker:>14} {simulator:>15.0}");
}

/// Prints what the worker has of the thin loop's figures, round by round, and returns the median of the rates.
pub fn print_ratios(rounds: &[Round]) -> f64 {
    println!("\nworker / thin        min  median     max");
    let print = |what, of: fn(&Cost) -> f64| {
        let mut ratios: Vec<f64> = rounds.iter().map(|round| of(&round.worker) / of(&round.thin)).collect();
        ratios.sort_by(f64::total_cmp);
        let median = median(&ratios);
        let ends = ratios.first().zip(ratios.last()).unwrap_or((&f64::NAN, &f64::NAN));
        println!("{what:<16} {:>7.2} {median:>7.2} {:>7.2}", ends.0, ends.1);
        median
    };
    let rate = print("requests/s", |cost| cost.rate);
    print("CPU", |cost| cost.cpu);
    print("peak RSS", |cost| cost.peak);
    rate
}

/// The middle of sorted values, or the mean of the two in the middle.
fn median(sorted: &[f64]) -> f64 {
    let middle = sorted.len() / 2;
    match sorted {
        [] => f64::NAN,
        _ if sorted.len() % 2 == 1 => sorted[middle],
        _ => f64::midpoint(sorted[middle - 1], sorted[middle]),
    }
}
