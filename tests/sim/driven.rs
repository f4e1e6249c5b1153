//! What can be driven by a trace and looked at: the engine, and the reference model.

use bursar::{BudgetId, Config};

use crate::event::{Event, Seen, View};
use crate::model::Model;

pub trait Driven {
    fn new(config: &Config, clock: u64) -> Self;

    /// Does what `event` says, and tells what is seen.
    fn apply(&mut self, event: &Event) -> Vec<Seen>;

    /// What can be told between two events; an error if it is not sound in itself.
    fn view(&mut self) -> Result<View, String>;

    /// Whether `units` of a rate are eligible now.
    fn rate_serves(&self, id: BudgetId, units: u64) -> Option<bool>;

    /// Units of a rate that were charged and not refunded.
    fn spent(&self, id: BudgetId) -> Option<u64>;

    /// How many reservations it still knows of.
    fn residue(&mut self) -> usize;

    fn describe(&self) -> String;
}

impl Driven for Model {
    fn new(config: &Config, clock: u64) -> Model {
        Model::new(config, clock)
    }

    fn apply(&mut self, event: &Event) -> Vec<Seen> {
        Model::apply(self, event)
    }

    fn view(&mut self) -> Result<View, String> {
        self.check().map(|()| self.look())
    }

    fn rate_serves(&self, id: BudgetId, units: u64) -> Option<bool> {
        self.stock_of(id).filter(|stock| stock.is_rate()).map(|stock| stock.serves(units, 0, self.clock()))
    }

    fn spent(&self, id: BudgetId) -> Option<u64> {
        self.stock_of(id)?.spent()
    }

    fn residue(&mut self) -> usize {
        self.reservations()
    }

    fn describe(&self) -> String {
        Model::describe(self)
    }
}
