//! What the books promise, on their own.

use super::*;

fn books() -> Books {
    let mut books = Books::new();
    books.open(&[Budget::loan(BudgetId::GPU, 100), Budget::rate(BudgetId::IO, 10).max_debt(5)], 0);
    books
}

fn take(books: &mut Books, amounts: &Amounts) -> Option<Held> {
    let generation = books.generation();
    books.take_past_engine(generation, amounts, Priority::Normal)
}

#[test]
fn a_bundle_is_taken_whole_or_not_at_all() {
    let mut books = Books::new();
    books.open(&[Budget::loan(BudgetId::GPU, 100), Budget::loan(BudgetId::HOST, 10)], 0);
    let mut bundle = Amounts::of(BudgetId::GPU, 60);
    assert!(bundle.add(BudgetId::HOST, 6));
    assert!(take(&mut books, &bundle).is_some());
    assert!(take(&mut books, &bundle).is_none());
    assert_eq!((books.free(BudgetId::GPU), books.free(BudgetId::HOST)), (40, 4));
    let mut only_the_second_is_short = Amounts::of(BudgetId::GPU, 40);
    assert!(only_the_second_is_short.add(BudgetId::HOST, 5));
    assert!(take(&mut books, &only_the_second_is_short).is_none());
    assert_eq!((books.free(BudgetId::GPU), books.free(BudgetId::HOST)), (40, 4));
    books.verify().unwrap();
}

#[test]
fn the_last_unit_is_granted_and_not_one_more() {
    let mut books = books();
    assert!(take(&mut books, &Amounts::of(BudgetId::GPU, 101)).is_none());
    assert!(take(&mut books, &Amounts::of(BudgetId::GPU, 100)).is_some());
    assert!(take(&mut books, &Amounts::of(BudgetId::GPU, 1)).is_none());
    assert_eq!((books.free(BudgetId::GPU), books.deficit(BudgetId::GPU)), (0, 0));
}

#[test]
fn a_bundle_of_few_or_of_many_budgets_is_taken_to_the_last_unit_and_not_beyond() {
    for count in [2, 10] {
        let mut books = Books::new();
        let ids: Vec<_> = (0..count).filter_map(BudgetId::from_index).collect();
        books.open(&ids.iter().map(|&id| Budget::loan(id, 9)).collect::<Vec<_>>(), 0);
        let last = ids[count - 1];
        let mut all = Amounts::new();
        assert!(ids.iter().all(|&id| all.add(id, 9)));
        let mut beyond = all.clone();
        assert!(beyond.add(last, 1));
        assert!(take(&mut books, &beyond).is_none());
        assert!(ids.iter().all(|&id| books.free(id) == 9));
        assert!(take(&mut books, &all).is_some());
        assert!(ids.iter().all(|&id| books.free(id) == 0));
        books.verify().unwrap();
    }
}

#[test]
fn a_lease_is_the_same_word_whether_it_was_taken_or_offered() {
    let mut books = Books::new();
    books.open(&[Budget::loan(BudgetId::GPU, i64::MAX as u64), Budget::rate(BudgetId::IO, 10)], 0);
    let large = 1 << 53;
    for units in [1, large - 1, large, i64::MAX as u64] {
        let amounts = Amounts::of(BudgetId::GPU, units);
        let held = books.take_one(BudgetId::GPU, units, Priority::High);
        assert_eq!(held.place().is_some(), units >= large, "{units}");
        assert_eq!(Held::offered(&amounts, books.rates(), held.place().unwrap_or(0), Priority::High), held);
        assert_eq!(books.amounts(held), amounts);
        let _ = books.give(held);
        let held = take(&mut books, &amounts).unwrap();
        assert_eq!(held.place().is_some(), units >= large, "{units}");
        let _ = books.give(held);
    }
    let io = Amounts::of(BudgetId::IO, 1);
    let held = books.take_one(BudgetId::IO, 1, Priority::High);
    assert_eq!((held.place(), Held::offered(&io, books.rates(), 0, Priority::High)), (None, held));
}

#[test]
fn a_place_is_used_again_by_one_bundle_only() {
    let mut books = Books::new();
    books.open(&[Budget::loan(BudgetId::GPU, 100), Budget::loan(BudgetId::HOST, 100)], 0);
    let bundle = |gpu, host| {
        let mut bundle = Amounts::of(BudgetId::GPU, gpu);
        assert!(bundle.add(BudgetId::HOST, host));
        bundle
    };
    let before = take(&mut books, &bundle(1, 1)).unwrap();
    let place = before.place();
    let _ = books.give(before);
    let (first, second) = (take(&mut books, &bundle(2, 3)).unwrap(), take(&mut books, &bundle(4, 5)).unwrap());
    assert_eq!(first.place(), place);
    assert_eq!((books.amounts(first), books.amounts(second)), (bundle(2, 3), bundle(4, 5)));
    let _ = (books.give(first), books.give(second));
    assert_eq!((books.free(BudgetId::GPU), books.free(BudgetId::HOST)), (100, 100));
    books.verify().unwrap();
}

#[test]
fn a_shrink_below_use_is_a_visible_deficit_that_returns_pay_off() {
    let mut books = books();
    let held = take(&mut books, &Amounts::of(BudgetId::GPU, 80)).unwrap();
    books.set_capacity(BudgetId::GPU, 50);
    assert_eq!((books.free(BudgetId::GPU), books.deficit(BudgetId::GPU)), (0, 30));
    books.verify().unwrap();
    let _ = books.give(held);
    assert_eq!((books.free(BudgetId::GPU), books.deficit(BudgetId::GPU)), (50, 0));
    assert_eq!(books.peak(BudgetId::GPU), 80);
    books.verify().unwrap();
}

#[test]
fn books_that_do_not_balance_name_the_budget() {
    let mut books = books();
    books.accounts[BudgetId::GPU.index()].take(1);
    assert_eq!(books.verify().unwrap_err().0, BudgetId::GPU, "nobody holds it");
    let mut books = self::books();
    *books.bucket_mut(BudgetId::IO).unwrap() = Bucket::out_of_balance();
    assert_eq!(books.verify().unwrap_err().0, BudgetId::IO);
}

#[test]
fn a_flag_shuts_the_way_past_the_engine_and_is_learnt_by_the_give() {
    let mut books = books();
    let one = Amounts::of(BudgetId::GPU, 1);
    let held = take(&mut books, &one).unwrap();
    books.set_shut(BudgetId::GPU.bit(), true);
    assert!(take(&mut books, &one).is_none());
    assert_eq!(books.give(held), Some(BudgetId::GPU.bit()));
    books.set_shut(BudgetId::GPU.bit(), false);
    let held = take(&mut books, &one).unwrap();
    assert_eq!(books.give(held), None);
}

#[test]
fn of_as_many_budgets_as_there_can_be_only_the_one_that_is_waited_for_is_shut() {
    let mut books = Books::new();
    let ids: Vec<_> = (0..BudgetId::LIMIT).filter_map(BudgetId::from_index).collect();
    books.open(&ids.iter().map(|&id| Budget::loan(id, 9)).collect::<Vec<_>>(), 0);
    let last = ids[BudgetId::LIMIT - 1];
    books.set_shut(last.bit(), true);
    for id in ids {
        assert_eq!(take(&mut books, &Amounts::of(id, 1)).is_some(), id != last);
    }
}

#[test]
fn once_closed_nothing_is_taken_past_the_engine_and_every_end_is_heard_of() {
    let mut books = books();
    let one = Amounts::of(BudgetId::GPU, 1);
    let nothing = |books: &mut Books| books.take(&Amounts::of(BudgetId::IO, 1), Priority::Normal);
    let (held, empty, last) = (take(&mut books, &one).unwrap(), nothing(&mut books), nothing(&mut books));
    assert_eq!(books.give(empty), None);
    books.set_shut(BudgetId::GPU.bit(), true);
    books.close();
    assert!(take(&mut books, &one).is_none());
    assert_eq!(books.give(held), Some(BudgetId::GPU.bit()));
    assert_eq!(books.give(last), Some(0), "it may be the last");
}

#[test]
fn a_rate_is_spent_by_a_lease_and_refunded_by_an_undone_offer() {
    let mut books = books();
    let io = Amounts::of(BudgetId::IO, 4);
    assert!(take(&mut books, &io).is_none(), "a rate needs the clock");
    let held = books.take(&io, Priority::Normal);
    assert_eq!(books.amounts(held), Amounts::new());
    let _ = books.give(held);
    assert_eq!(books.free(BudgetId::IO), 6);
    let held = books.take(&io, Priority::Normal);
    books.undo(&io, held);
    assert_eq!(books.free(BudgetId::IO), 6);
    books.verify().unwrap();
}

#[test]
fn what_is_split_and_merged_is_all_there() {
    let mut books = Books::new();
    let ids: Vec<_> = (0..10).filter_map(BudgetId::from_index).collect();
    books.open(&ids.iter().map(|&id| Budget::loan(id, 9)).collect::<Vec<_>>(), 0);
    let mut all = Amounts::new();
    assert!(ids.iter().all(|&id| all.add(id, 5)));
    let mut held = take(&mut books, &all).unwrap();
    let mut part = Amounts::of(ids[3], 5);
    assert!(part.add(ids[9], 2));
    let mut split = books.split(&mut held, &part).unwrap();
    assert_eq!(books.amounts(held).get(ids[9]), 3);
    assert_eq!(books.split(&mut held, &part), Err(ids[3]));
    assert!(books.merge(&mut held, &mut split));
    assert_eq!(books.amounts(held), all);
    let _ = (books.give(held), books.give(split));
    books.verify().unwrap();
    assert_eq!(books.leases(), 0);
}
