//! Rounds: every subject once a round, in an order that rotates, so that what disturbs the machine disturbs all alike.

/// Something that is measured: a name, and how to take one sample.
pub struct Subject<'a, S> {
    name: String,
    sample: Box<dyn FnMut() -> S + 'a>,
}

impl<'a, S> Subject<'a, S> {
    pub fn new(name: impl Into<String>, sample: impl FnMut() -> S + 'a) -> Self {
        Subject { name: name.into(), sample: Box::new(sample) }
    }
}

/// The samples of every subject, by round.
pub struct Rounds<S> {
    series: Vec<(String, Vec<S>)>,
}

/// Measures all subjects, `rounds` times. A first round is thrown away.
pub fn interleave<S>(mut subjects: Vec<Subject<'_, S>>, rounds: usize) -> Rounds<S> {
    let mut series: Vec<_> = subjects.iter().map(|subject| (subject.name.clone(), Vec::new())).collect();
    for subject in &mut subjects {
        (subject.sample)();
    }
    let count = subjects.len();
    for round in 0..rounds {
        for turn in 0..count {
            let at = (round + turn) % count;
            series[at].1.push((subjects[at].sample)());
        }
    }
    Rounds { series }
}

impl<S> Rounds<S> {
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.series.iter().map(|(name, _)| name.as_str())
    }

    /// All samples of a subject.
    ///
    /// # Panics
    /// When there is no such subject: names are constants of the benchmark.
    pub fn of(&self, name: &str) -> &[S] {
        let found = self.series.iter().find(|(known, _)| known == name);
        &found.unwrap_or_else(|| panic!("no subject {name:?}")).1
    }

    /// The median of a figure of a subject.
    pub fn median(&self, name: &str, figure: impl Fn(&S) -> f64) -> f64 {
        median(self.of(name).iter().map(figure))
    }

    /// The median over rounds of subject / peer within the round.
    pub fn ratio(&self, subject: &str, peer: &str, figure: impl Fn(&S) -> f64) -> f64 {
        let pairs = self.of(subject).iter().zip(self.of(peer));
        median(pairs.map(|(subject, peer)| figure(subject) / figure(peer)))
    }

    /// The quartiles of the same ratio: how far to trust it.
    pub fn quartiles(&self, subject: &str, peer: &str, figure: impl Fn(&S) -> f64) -> (f64, f64) {
        let pairs = self.of(subject).iter().zip(self.of(peer));
        let mut ratios: Vec<f64> = pairs.map(|(subject, peer)| figure(subject) / figure(peer)).collect();
        ratios.sort_by(f64::total_cmp);
        let last = ratios.len() - 1;
        (ratios[last / 4], ratios[last - last / 4])
    }
}

/// The median; the lower one of two.
///
/// # Panics
/// When there is nothing.
fn median(figures: impl Iterator<Item = f64>) -> f64 {
    let mut sorted: Vec<f64> = figures.collect();
    sorted.sort_by(f64::total_cmp);
    sorted[(sorted.len() - 1) / 2]
}
