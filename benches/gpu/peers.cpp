// What a block of other pools for device memory costs: allocate and free, as a pair. Beside benches/gpu/pool.rs, with
// the same sizes, the same picks and the same loops; `benches/gpu/run` builds and runs both.
//
// Prints a line a figure: name of the peer, what was measured, the figure. Pairs are in nanoseconds, threads in million
// pairs a second of all together. Peers that are not built in (WITH_TORCH, WITH_RMM) are left out.

#include <cuda_runtime.h>

#include <atomic>
#include <barrier>
#include <chrono>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#ifdef WITH_TORCH
#include <c10/cuda/CUDACachingAllocator.h>
#endif
#ifdef WITH_RMM
#include <rmm/mr/arena_memory_resource.hpp>
#include <rmm/mr/cuda_memory_resource.hpp>
#include <rmm/mr/pool_memory_resource.hpp>
#endif

namespace {

constexpr std::size_t kSizes = 4096;
constexpr int kStreams = 16;
constexpr std::size_t kChurn = 1000;
constexpr std::size_t kChurnOfThread = 200;

void check(cudaError_t result, const char* call) {
  if (result != cudaSuccess) {
    std::fprintf(stderr, "%s: %s\n", call, cudaGetErrorString(result));
    std::exit(1);
  }
}

// SplitMix64, as in pool.rs.
struct Random {
  std::uint64_t state;

  std::uint64_t next() {
    std::uint64_t z = (state += 0x9e3779b97f4a7c15);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
    z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
    return z ^ (z >> 31);
  }

  std::uint64_t below(std::uint64_t limit) { return next() % limit; }
};

// Log-uniform from 256 B to 4 MiB.
std::vector<std::size_t> sizes(std::uint64_t seed) {
  Random random{seed};
  std::vector<std::size_t> drawn(kSizes);
  for (auto& size : drawn) {
    double share = static_cast<double>(random.next() >> 11) / 9007199254740992.0;
    size = static_cast<std::size_t>(std::exp2(8.0 + 14.0 * share));
  }
  return drawn;
}

struct Peer {
  std::string name;
  std::function<void*(std::size_t, int)> allocate;
  std::function<void(void*, std::size_t, int)> free;
};

using Clock = std::chrono::steady_clock;

double nanos_since(Clock::time_point start) {
  return std::chrono::duration<double, std::nano>(Clock::now() - start).count();
}

double lifo(const Peer& peer, std::size_t pairs) {
  const auto drawn = sizes(1);
  auto steps = [&](std::size_t count) {
    for (std::size_t step = 0; step < count; ++step) {
      std::size_t size = drawn[step % kSizes];
      peer.free(peer.allocate(size, 0), size, 0);
    }
  };
  steps(kSizes);
  auto start = Clock::now();
  steps(pairs);
  return nanos_since(start) / static_cast<double>(pairs);
}

// Live blocks of which a random one is freed and another allocated.
class Churn {
 public:
  Churn(const Peer& peer, std::size_t live, int stream)
      : peer_(peer), stream_(stream), sizes_(sizes(100 + stream)), random_{live} {
    for (std::size_t n = 0; n < live; ++n) blocks_.push_back(make(n));
  }

  ~Churn() {
    for (auto& [block, size] : blocks_) peer_.free(block, size, stream_);
  }

  void step() {
    std::size_t at = random_.below(blocks_.size());
    peer_.free(blocks_[at].first, blocks_[at].second, stream_);
    blocks_[at] = std::exchange(blocks_.back(), {});
    blocks_.back() = make(count_++ * 7);
  }

 private:
  std::pair<void*, std::size_t> make(std::size_t n) {
    std::size_t size = sizes_[n % kSizes];
    return {peer_.allocate(size, stream_), size};
  }

  const Peer& peer_;
  int stream_;
  std::vector<std::size_t> sizes_;
  Random random_;
  std::vector<std::pair<void*, std::size_t>> blocks_;
  std::size_t count_ = 1;
};

double churn(const Peer& peer, std::size_t live, std::size_t pairs) {
  Churn churn(peer, live, 0);
  for (std::size_t step = 0; step < pairs / 4; ++step) churn.step();
  auto start = Clock::now();
  for (std::size_t step = 0; step < pairs; ++step) churn.step();
  return nanos_since(start) / static_cast<double>(pairs);
}

// Every thread churns on a stream of its own for a while; all of them begin together.
double threads(const Peer& peer, int count, std::chrono::milliseconds window) {
  std::barrier ready(count + 1);
  std::atomic<bool> stop{false};
  std::vector<std::uint64_t> done(count);
  std::vector<std::thread> workers;
  for (int number = 0; number < count; ++number) {
    workers.emplace_back([&, number] {
      check(cudaSetDevice(0), "cudaSetDevice");
      Churn churn(peer, kChurnOfThread, number);
      for (int step = 0; step < 2000; ++step) churn.step();
      ready.arrive_and_wait();
      std::uint64_t pairs = 0;
      while (!stop.load(std::memory_order_relaxed)) {
        for (int step = 0; step < 32; ++step) churn.step();
        pairs += 32;
      }
      done[number] = pairs;
      ready.arrive_and_wait();
    });
  }
  ready.arrive_and_wait();
  auto start = Clock::now();
  std::this_thread::sleep_for(window);
  stop.store(true);
  ready.arrive_and_wait();
  double nanos = nanos_since(start);
  for (auto& worker : workers) worker.join();
  std::uint64_t pairs = 0;
  for (auto of_one : done) pairs += of_one;
  return static_cast<double>(pairs) * 1e3 / nanos;
}

void measure(const Peer& peer, bool quick) {
  auto print = [&](const std::string& what, double figure) {
    std::printf("%s\t%s\t%.2f\n", peer.name.c_str(), what.c_str(), figure);
    std::fflush(stdout);
  };
  std::size_t pairs = quick ? 5000 : 50000;
  auto window = std::chrono::milliseconds(quick ? 30 : 150);
  print("lifo", lifo(peer, pairs));
  print("churn 1000", churn(peer, kChurn, pairs));
  for (int count : {1, 2, 4, 8, 16}) print("threads " + std::to_string(count), threads(peer, count, window));
  for (std::size_t live : {100, 1000, 10000, 100000}) {
    Churn beside(peer, live, 1);
    print("lifo beside " + std::to_string(live), lifo(peer, pairs));
  }
}

cudaStream_t streams[kStreams];

Peer driver_pool() {
  cudaMemPool_t pool;
  check(cudaDeviceGetDefaultMemPool(&pool, 0), "cudaDeviceGetDefaultMemPool");
  std::uint64_t keep = UINT64_MAX;
  check(cudaMemPoolSetAttribute(pool, cudaMemPoolAttrReleaseThreshold, &keep), "cudaMemPoolSetAttribute");
  return {"cudaMallocAsync",
          [](std::size_t size, int stream) {
            void* block = nullptr;
            check(cudaMallocAsync(&block, size, streams[stream]), "cudaMallocAsync");
            return block;
          },
          [](void* block, std::size_t, int stream) { check(cudaFreeAsync(block, streams[stream]), "cudaFreeAsync"); }};
}

#ifdef WITH_TORCH
Peer pytorch() {
  namespace caching = c10::cuda::CUDACachingAllocator;
  caching::init(1);
  return {"PyTorch", [](std::size_t size, int stream) { return caching::raw_alloc_with_stream(size, streams[stream]); },
          [](void* block, std::size_t, int) { caching::raw_delete(block); }};
}
#endif

#ifdef WITH_RMM
template <typename Resource>
Peer rmm_peer(std::string name, Resource& resource) {
  return {std::move(name),
          [&resource](std::size_t size, int stream) {
            return resource.allocate(cuda::stream_ref{streams[stream]}, size, 256);
          },
          [&resource](void* block, std::size_t size, int stream) {
            resource.deallocate(cuda::stream_ref{streams[stream]}, block, size, 256);
          }};
}
#endif

}  // namespace

// `peers NAME`: one peer a process, so that none holds memory that another needs. `peers NAME quick` is shorter.
int main(int argc, char** argv) {
  if (argc < 2) return 2;
  std::string name = argv[1];
  bool quick = argc > 2;
  check(cudaSetDevice(0), "cudaSetDevice");
  for (auto& stream : streams) check(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), "cudaStreamCreate");
  if (name == "cudaMallocAsync") measure(driver_pool(), quick);
#ifdef WITH_TORCH
  if (name == "PyTorch") measure(pytorch(), quick);
#endif
#ifdef WITH_RMM
  // As large as the sweep over live blocks needs it.
  constexpr std::size_t kReserve = std::size_t{56} << 30;
  rmm::mr::cuda_memory_resource upstream;
  if (name == "RMM-pool") {
    rmm::mr::pool_memory_resource pool{upstream, kReserve};
    measure(rmm_peer(name, pool), quick);
  }
  if (name == "RMM-arena") {
    rmm::mr::arena_memory_resource arena{upstream, kReserve};
    measure(rmm_peer(name, arena), quick);
  }
#endif
  return 0;
}
