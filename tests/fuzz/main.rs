//! Bad input in bulk for every decoder: cancel requests, follow-ups, result events, replies of the API. Each input is
//! either understood, and then comes back unchanged from what is written of it, or refused with a sentence.
//!
//! ```text
//! cargo test --test fuzz                              1,000,000 inputs in all
//! cargo test --test fuzz -- --inputs 50000 --only reply --seed 7
//! ```
//!
//! What once failed is kept in `corpus/<decoder>/` and comes first in every run.
#![expect(clippy::print_stdout, clippy::expect_used, reason = "a test program")]

mod decoders;
mod mutator;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::process::ExitCode;

use decoders::{Decoder, files};

struct Options {
    inputs: u64,
    seed: u64,
    only: Option<String>,
}

fn options() -> Result<Options, String> {
    let mut options = Options { inputs: 1_000_000, seed: 1, only: None };
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let value = arguments.next().ok_or(format!("{argument} needs a value"))?;
        let number = || value.parse().map_err(|_| format!("{argument} needs a number"));
        match argument.as_str() {
            "--inputs" => options.inputs = number()?,
            "--seed" => options.seed = number()?,
            "--only" => options.only = Some(value),
            _ => return Err(format!("{argument} is none of --inputs N, --seed S, --only DECODER")),
        }
    }
    Ok(options)
}

fn main() -> ExitCode {
    let options = match options() {
        Ok(options) => options,
        Err(problem) => {
            println!("{problem}");
            return ExitCode::from(2);
        }
    };
    let mut decoders = decoders::all();
    decoders.retain(|decoder| options.only.as_deref().is_none_or(|only| only == decoder.name));
    let each = options.inputs / (decoders.len() as u64).max(1);
    let results = decoders.iter().map(|decoder| run(decoder, options.seed, each));
    let failed = results.filter(|passed| !passed).count();
    let passed = decoders.len() - failed;
    let word = if failed == 0 { "ok" } else { "FAILED" };
    println!("test result: {word}. {passed} passed; {failed} failed; 0 ignored; 0 measured; 0 filtered out");
    ExitCode::from(u8::from(failed > 0 || passed == 0))
}

fn run(decoder: &Decoder, seed: u64, inputs: u64) -> bool {
    let Decoder { name, corpus, .. } = decoder;
    let kept = files(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/corpus").join(name));
    let mut seeds: Vec<&[u8]> = corpus.iter().map(Vec::as_slice).collect();
    seeds.extend(kept.iter().map(|(_, body)| body.as_slice()));
    let (mut understood, mut problems) = (0u64, 0u64);
    for number in 0..seeds.len() as u64 + inputs {
        // Each input follows from its number alone, so that one can be looked at without those before it.
        let mut dice = fastrand::Rng::with_seed(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ number);
        let input = match seeds.get(usize::try_from(number).unwrap_or(usize::MAX)) {
            Some(seed) => seed.to_vec(),
            None => {
                let [one, other] = [0; 2].map(|_| seeds[dice.usize(..seeds.len())]);
                mutator::mutate(&mut dice, one, other)
            }
        };
        let checked = catch_unwind(AssertUnwindSafe(|| (decoder.check)(&mut dice, &input)));
        let problem = match checked {
            Ok(Ok(yes)) => {
                understood += u64::from(yes);
                continue;
            }
            Ok(Err(problem)) => problem,
            Err(_) => "it panicked".to_owned(),
        };
        problems += 1;
        if problems <= 5 {
            println!("{name}, seed {seed}, input {number}: {problem}\n    {:?}", String::from_utf8_lossy(&input));
        }
    }
    println!("{name}: {inputs} inputs and {} known ones, {understood} understood, {problems} problems", seeds.len());
    problems == 0
}
