use bursar::*;
#[tokio::test(start_paused = true)]
async fn smoke() {
    let s = Scheduler::builder().gpu(10u64).io(100u64).spawn().unwrap();
    let a = s.reserve(Request::new().gpu(8u64)).await.unwrap();
    let mut b = tokio_test::task::spawn(
        s.reserve(Request::new().gpu(4u64).deadline(std::time::Duration::from_secs(1)).label("b")),
    );
    assert!(b.poll().is_pending());
    drop(a);
    assert!(b.is_woken());
    let l = match b.poll() {
        std::task::Poll::Ready(l) => l.unwrap(),
        _ => panic!(),
    };
    drop(l);
    println!("{}", s.stats());
    let x = s.reserve(Request::new().gpu(4u64).label("hog")).await.unwrap();
    let e =
        s.reserve(Request::new().gpu(8u64).deadline(std::time::Duration::from_secs(1)).label("b")).await.unwrap_err();
    println!("{e}");
    drop(x);
    let st = s.shutdown().await.unwrap();
    println!("{st}");
}
