// Launches, latencies and bandwidths of a GPU, as CSV on stdout: what,blocks,threads,bytes,value,unit
//
//   nvcc -O3 -gencode=arch=compute_90,code=sm_90 memory.cu -o memory && ./memory
//
// Times are medians over replays of a CUDA graph of many kernels in turn. "cold" kernels walk over 2 GiB, so that what
// they touch was last touched far more than the cache's size before; "warm" ones read the same bytes each time.

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <vector>

#define CHECK(call)                                                                   \
    do {                                                                              \
        cudaError_t error_ = (call);                                                       \
        if (error_ != cudaSuccess) {                                                       \
            fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, cudaGetErrorString(error_)); \
            exit(1);                                                                  \
        }                                                                             \
    } while (0)

static cudaStream_t stream;
static const size_t POOL = size_t(2) << 30;

__global__ void empty() {}

// Four independent 16-byte loads a thread are in flight.
__global__ void read_kernel(const uint4 *in, size_t count, uint4 *out) {
    size_t step = size_t(gridDim.x) * blockDim.x, i = size_t(blockIdx.x) * blockDim.x + threadIdx.x;
    uint4 sum = {0, 0, 0, 0};
    for (; i + 3 * step < count; i += 4 * step) {
        uint4 a = __ldcg(in + i), b = __ldcg(in + i + step), c = __ldcg(in + i + 2 * step), d = __ldcg(in + i + 3 * step);
        sum.x ^= a.x ^ b.x ^ c.x ^ d.x;
        sum.y ^= a.y ^ b.y ^ c.y ^ d.y;
        sum.z ^= a.z ^ b.z ^ c.z ^ d.z;
        sum.w ^= a.w ^ b.w ^ c.w ^ d.w;
    }
    for (; i < count; i += step) {
        uint4 a = __ldcg(in + i);
        sum.x ^= a.x;
        sum.y ^= a.y;
        sum.z ^= a.z;
        sum.w ^= a.w;
    }
    if ((sum.x | sum.y | sum.z | sum.w) == 0x12345678) *out = sum;
}

__global__ void write_kernel(uint4 *out, size_t count, uint32_t value) {
    size_t step = size_t(gridDim.x) * blockDim.x, i = size_t(blockIdx.x) * blockDim.x + threadIdx.x;
    for (; i < count; i += step) out[i] = {value, value + 1, uint32_t(i), value};
}

__global__ void copy_kernel(const uint4 *in, uint4 *out, size_t count) {
    size_t step = size_t(gridDim.x) * blockDim.x, i = size_t(blockIdx.x) * blockDim.x + threadIdx.x;
    for (; i + 3 * step < count; i += 4 * step) {
        uint4 a = __ldcg(in + i), b = __ldcg(in + i + step), c = __ldcg(in + i + 2 * step), d = __ldcg(in + i + 3 * step);
        out[i] = a;
        out[i + step] = b;
        out[i + 2 * step] = c;
        out[i + 3 * step] = d;
    }
    for (; i < count; i += step) out[i] = __ldcg(in + i);
}

// `n` dependent loads; cycles and nanoseconds of all of them.
__global__ void chase(const uint32_t *next, int n, uint32_t start, uint64_t *out) {
    uint32_t at = start;
    uint64_t t0, t1, c0 = clock64();
    asm volatile("mov.u64 %0, %%globaltimer;" : "=l"(t0));
    for (int i = 0; i < n; i++) at = __ldcg(next + at);
    uint64_t c1 = clock64();
    asm volatile("mov.u64 %0, %%globaltimer;" : "=l"(t1));
    out[0] = c1 - c0;
    out[1] = t1 - t0;
    out[2] = at;
}

// Median seconds of a node of a graph of `nodes` launches.
static double per_node(int nodes, const std::function<void(int)> &launch) {
    cudaGraph_t graph;
    cudaGraphExec_t exec;
    CHECK(cudaStreamBeginCapture(stream, cudaStreamCaptureModeGlobal));
    for (int i = 0; i < nodes; i++) launch(i);
    CHECK(cudaStreamEndCapture(stream, &graph));
    CHECK(cudaGraphInstantiate(&exec, graph, 0));
    cudaEvent_t e[12];
    for (auto &x : e) CHECK(cudaEventCreate(&x));
    CHECK(cudaGraphLaunch(exec, stream));
    for (int i = 0; i < 12; i++) {
        CHECK(cudaEventRecord(e[i], stream));
        if (i < 11) CHECK(cudaGraphLaunch(exec, stream));
    }
    CHECK(cudaStreamSynchronize(stream));
    CHECK(cudaGetLastError());
    std::vector<float> times;
    for (int i = 0; i < 11; i++) {
        float ms;
        CHECK(cudaEventElapsedTime(&ms, e[i], e[i + 1]));
        times.push_back(ms);
    }
    std::sort(times.begin(), times.end());
    for (auto &x : e) CHECK(cudaEventDestroy(x));
    CHECK(cudaGraphExecDestroy(exec));
    CHECK(cudaGraphDestroy(graph));
    return times[5] * 1e-3 / nodes;
}

static void tell(const char *what, int blocks, int threads, size_t bytes, double value, const char *unit) {
    printf("%s,%d,%d,%zu,%.6g,%s\n", what, blocks, threads, bytes, value, unit);
}

int main() {
    cudaDeviceProp p;
    CHECK(cudaGetDeviceProperties(&p, 0));
    CHECK(cudaStreamCreate(&stream));
    printf("what,blocks,threads,bytes,value,unit\n");
    tell("device sm", p.multiProcessorCount, 0, p.l2CacheSize, p.sharedMemPerMultiprocessor, "B shared");
    uint8_t *in, *out;
    CHECK(cudaMalloc(&in, POOL));
    CHECK(cudaMalloc(&out, POOL));
    std::vector<uint32_t> random(1 << 22);
    uint64_t s = 1;
    for (auto &x : random) x = uint32_t((s = s * 6364136223846793005ull + 1442695040888963407ull) >> 32);
    for (size_t at = 0; at < POOL; at += random.size() * 4)
        CHECK(at ? cudaMemcpy(in + at, in, random.size() * 4, cudaMemcpyDeviceToDevice)
                 : cudaMemcpy(in, random.data(), random.size() * 4, cudaMemcpyHostToDevice));
    const int sms = p.multiProcessorCount;
    // The clock rises.
    per_node(200, [&](int) { copy_kernel<<<4 * sms, 512, 0, stream>>>((uint4 *)in, (uint4 *)out, POOL / 64); });

    for (int blocks : {1, sms, 8 * sms, 16 * sms, 128 * sms, 1024 * sms})
        for (int threads : {32, 256, 1024})
            tell("empty graph", blocks, threads, 0, per_node(400, [&](int) { empty<<<blocks, threads, 0, stream>>>(); }) * 1e6, "us");
    {
        cudaEvent_t a, b;
        CHECK(cudaEventCreate(&a));
        CHECK(cudaEventCreate(&b));
        for (int i = 0; i < 2; i++) {
            CHECK(cudaEventRecord(a, stream));
            for (int j = 0; j < 2000; j++) empty<<<1, 32, 0, stream>>>();
            CHECK(cudaEventRecord(b, stream));
            CHECK(cudaStreamSynchronize(stream));
        }
        float ms;
        CHECK(cudaEventElapsedTime(&ms, a, b));
        tell("empty stream", 1, 32, 0, ms, "ms of 2000");
    }

    // Pointers along a random cycle of lines.
    for (size_t bytes : {size_t(1) << 20, size_t(8) << 20, size_t(20) << 20, size_t(36) << 20, size_t(512) << 20}) {
        size_t line = 32, count = bytes / (4 * line);
        std::vector<uint32_t> order(count);
        for (size_t i = 0; i < count; i++) order[i] = uint32_t(i);
        for (size_t i = count - 1; i > 0; i--) {
            s = s * 6364136223846793005ull + 1442695040888963407ull;
            std::swap(order[i], order[(s >> 33) % i]);  // one cycle over all (Sattolo)
        }
        std::vector<uint32_t> next(bytes / 4);
        for (size_t i = 0; i < count; i++) next[i * line] = order[i] * uint32_t(line);
        CHECK(cudaMemcpy(out, next.data(), bytes, cudaMemcpyHostToDevice));
        uint64_t *there, told[3] = {};
        CHECK(cudaMalloc(&there, sizeof told));
        int n = bytes <= (size_t(36) << 20) ? int(count) : 20000;
        n = std::min(n, 100000);
        // The second time goes on where the first ended: over all lines again, or over new ones.
        for (int i = 0; i < 2; i++) {
            chase<<<1, 1, 0, stream>>>((uint32_t *)out, n, uint32_t(told[2]), there);
            CHECK(cudaMemcpy(told, there, sizeof told, cudaMemcpyDeviceToHost));
        }
        tell("latency cycles", 1, 1, bytes, double(told[0]) / n, "cycles");
        tell("latency", 1, 1, bytes, double(told[1]) / n, "ns");
        CHECK(cudaFree(there));
    }

    for (size_t bytes = size_t(1) << 14; bytes <= POOL; bytes <<= 1) {
        size_t count = bytes / 16, sets = POOL / bytes;
        int nodes = int(std::min(std::max((size_t(600) << 20) / bytes, size_t(2)), size_t(1000)));
        int threads = 256;
        // Few bytes: a load of each thread; many: as many blocks as fit.
        int blocks = int(std::min((count + threads - 1) / threads, size_t(8 * sms)));
        auto at = [&](uint8_t *x, int i) { return (uint4 *)(x + (size_t(i) * 7 % sets) * bytes); };
        tell("read cold", blocks, threads, bytes, bytes / 1e9 / per_node(nodes, [&](int i) {
            read_kernel<<<blocks, threads, 0, stream>>>(at(in, i), count, (uint4 *)out); }), "GB/s");
        tell("write cold", blocks, threads, bytes, bytes / 1e9 / per_node(nodes, [&](int i) {
            write_kernel<<<blocks, threads, 0, stream>>>(at(out, i), count, i * 2654435761u); }), "GB/s");
        tell("copy cold", blocks, threads, bytes, 2 * bytes / 1e9 / per_node(nodes, [&](int i) {
            copy_kernel<<<blocks, threads, 0, stream>>>(at(in, i), at(out, i), count); }), "GB/s");
        if (bytes <= size_t(64) << 20) {
            tell("read warm", blocks, threads, bytes, bytes / 1e9 / per_node(100, [&](int) {
                read_kernel<<<blocks, threads, 0, stream>>>((uint4 *)in, count, (uint4 *)out); }), "GB/s");
            tell("copy warm", blocks, threads, bytes, 2 * bytes / 1e9 / per_node(100, [&](int) {
                copy_kernel<<<blocks, threads, 0, stream>>>((uint4 *)in, (uint4 *)out, count); }), "GB/s");
        }
    }
    // How many blocks it takes, at one block a multiprocessor up to all: loads in flight bound the rate.
    for (int threads : {128, 256, 512, 1024})
        for (int blocks : {1, 2, 4, 8, 16, 32, 64, 96, sms, 2 * sms, 4 * sms}) {
            size_t bytes = std::min(size_t(blocks) << 21, size_t(256) << 20), count = bytes / 16, sets = POOL / bytes;
            tell("read cold blocks", blocks, threads, bytes, bytes / 1e9 / per_node(8, [&](int i) {
                read_kernel<<<blocks, threads, 0, stream>>>((uint4 *)(in + size_t(i) % sets * bytes), count, (uint4 *)out); }), "GB/s");
            size_t near = std::min(bytes, size_t(16) << 20);
            tell("read warm blocks", blocks, threads, near, near / 1e9 / per_node(20, [&](int) {
                read_kernel<<<blocks, threads, 0, stream>>>((uint4 *)in, near / 16, (uint4 *)out); }), "GB/s");
        }
    return 0;
}
