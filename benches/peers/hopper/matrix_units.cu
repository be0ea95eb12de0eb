// Single matrix instructions of a Hopper GPU on tiles of given numbers.
//
//   nvcc -O2 -gencode=arch=compute_90a,code=sm_90a matrix_units.cu -o matrix_units
//   matrix_units IN OUT      IN of matrix_units.py generate; OUT holds D of each tile, in the same order
//
// IN: for each instruction a line "name tiles\n", then per tile A (row-major), B (columns in turn, so K runs fastest)
// and C (row-major), little-endian. All operand fragments of these instructions are 32-bit words that lie alike: word i
// of A is row g + 8 (i mod 2), bytes 4 t + 16 (i / 2) of the row; word i of B is column g, bytes 4 t + 16 i; g = lane / 4,
// t = lane mod 4 (PTX ISA, matrix fragments).

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <vector>

#define CHECK(call)                                                                   \
    do {                                                                              \
        cudaError_t error_ = (call);                                                       \
        if (error_ != cudaSuccess) {                                                       \
            fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, cudaGetErrorString(error_)); \
            exit(1);                                                                  \
        }                                                                             \
    } while (0)

enum Sum { F32, F16, S32 };

// What a tile's operands take, in bytes: rows of A, bytes of a row of A or a column of B, bytes of an element of C.
struct Shape {
    int m, row, c;
};

template <int KIND>
__device__ void multiply(uint32_t (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2], uint64_t desc);

#define MMA_F32_4(ID, NAME)                                                                              \
    template <>                                                                                          \
    __device__ void multiply<ID>(uint32_t (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2], uint64_t) { \
        asm volatile("mma.sync.aligned." NAME " {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"   \
                     : "+r"(d[0]), "+r"(d[1]), "+r"(d[2]), "+r"(d[3])                                    \
                     : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));                \
    }
#define MMA_FLOAT_4(ID, NAME)                                                                            \
    template <>                                                                                          \
    __device__ void multiply<ID>(uint32_t (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2], uint64_t) { \
        float x[4];                                                                                      \
        for (int i = 0; i < 4; i++) x[i] = __uint_as_float(d[i]);                                        \
        asm volatile("mma.sync.aligned." NAME " {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"   \
                     : "+f"(x[0]), "+f"(x[1]), "+f"(x[2]), "+f"(x[3])                                    \
                     : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));                \
        for (int i = 0; i < 4; i++) d[i] = __float_as_uint(x[i]);                                        \
    }
#define MMA_FLOAT_2(ID, NAME)                                                                            \
    template <>                                                                                          \
    __device__ void multiply<ID>(uint32_t (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2], uint64_t) { \
        float x[4];                                                                                      \
        for (int i = 0; i < 4; i++) x[i] = __uint_as_float(d[i]);                                        \
        asm volatile("mma.sync.aligned." NAME " {%0,%1,%2,%3}, {%4,%5}, {%6}, {%0,%1,%2,%3};"            \
                     : "+f"(x[0]), "+f"(x[1]), "+f"(x[2]), "+f"(x[3])                                    \
                     : "r"(a[0]), "r"(a[1]), "r"(b[0]));                                                 \
        for (int i = 0; i < 4; i++) d[i] = __float_as_uint(x[i]);                                        \
    }
#define MMA_F16_4(ID, NAME)                                                                              \
    template <>                                                                                          \
    __device__ void multiply<ID>(uint32_t (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2], uint64_t) { \
        asm volatile("mma.sync.aligned." NAME " {%0,%1}, {%2,%3,%4,%5}, {%6,%7}, {%0,%1};"               \
                     : "+r"(d[0]), "+r"(d[1])                                                            \
                     : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));                \
    }
#define WGMMA_BEGIN asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
#define WGMMA_END                                                       \
    asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");      \
    asm volatile("wgmma.wait_group.sync.aligned 0;" ::: "memory");
// TAIL: ", 0" where the instruction can transpose B.
#define WGMMA_F32(ID, NAME, TAIL)                                                                        \
    template <>                                                                                          \
    __device__ void multiply<ID>(uint32_t (&d)[4], const uint32_t (&a)[4], const uint32_t (&)[2], uint64_t desc) { \
        float x[4];                                                                                      \
        for (int i = 0; i < 4; i++) x[i] = __uint_as_float(d[i]);                                        \
        WGMMA_BEGIN                                                                                      \
        asm volatile("{.reg .pred p; setp.ne.b32 p, 1, 0;\n"                                             \
                     "wgmma.mma_async.sync.aligned." NAME " {%0,%1,%2,%3}, {%4,%5,%6,%7}, %8, p, 1, 1" TAIL ";}" \
                     : "+f"(x[0]), "+f"(x[1]), "+f"(x[2]), "+f"(x[3])                                    \
                     : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(desc));                           \
        WGMMA_END                                                                                        \
        for (int i = 0; i < 4; i++) d[i] = __float_as_uint(x[i]);                                        \
    }
#define WGMMA_F16(ID, NAME, TAIL)                                                                        \
    template <>                                                                                          \
    __device__ void multiply<ID>(uint32_t (&d)[4], const uint32_t (&a)[4], const uint32_t (&)[2], uint64_t desc) { \
        WGMMA_BEGIN                                                                                      \
        asm volatile("{.reg .pred p; setp.ne.b32 p, 1, 0;\n"                                             \
                     "wgmma.mma_async.sync.aligned." NAME " {%0,%1}, {%2,%3,%4,%5}, %6, p, 1, 1" TAIL ";}" \
                     : "+r"(d[0]), "+r"(d[1])                                                            \
                     : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(desc));                           \
        WGMMA_END                                                                                        \
    }

// X(id, name in files, form, PTX, tail, shape, sum)
#define INSTRUCTIONS(X)                                                                                     \
    X(0, "mma.m16n8k16.f32.f16.f16", MMA_FLOAT_4, "m16n8k16.row.col.f32.f16.f16.f32", 16, 32, F32)          \
    X(1, "mma.m16n8k16.f32.bf16.bf16", MMA_FLOAT_4, "m16n8k16.row.col.f32.bf16.bf16.f32", 16, 32, F32)      \
    X(2, "mma.m16n8k16.f16.f16.f16", MMA_F16_4, "m16n8k16.row.col.f16.f16.f16.f16", 16, 32, F16)            \
    X(3, "mma.m16n8k8.f32.tf32.tf32", MMA_FLOAT_4, "m16n8k8.row.col.f32.tf32.tf32.f32", 16, 32, F32)        \
    X(4, "mma.m16n8k8.f32.f16.f16", MMA_FLOAT_2, "m16n8k8.row.col.f32.f16.f16.f32", 16, 16, F32)            \
    X(5, "mma.m16n8k8.f32.bf16.bf16", MMA_FLOAT_2, "m16n8k8.row.col.f32.bf16.bf16.f32", 16, 16, F32)        \
    X(6, "mma.m16n8k4.f32.tf32.tf32", MMA_FLOAT_2, "m16n8k4.row.col.f32.tf32.tf32.f32", 16, 16, F32)        \
    X(7, "mma.m16n8k32.f32.e4m3.e4m3", MMA_FLOAT_4, "m16n8k32.row.col.f32.e4m3.e4m3.f32", 16, 32, F32)      \
    X(8, "mma.m16n8k32.f32.e5m2.e5m2", MMA_FLOAT_4, "m16n8k32.row.col.f32.e5m2.e5m2.f32", 16, 32, F32)      \
    X(9, "mma.m16n8k32.f32.e4m3.e5m2", MMA_FLOAT_4, "m16n8k32.row.col.f32.e4m3.e5m2.f32", 16, 32, F32)      \
    X(10, "mma.m16n8k32.f16.e4m3.e4m3", MMA_F16_4, "m16n8k32.row.col.f16.e4m3.e4m3.f16", 16, 32, F16)       \
    X(11, "mma.m16n8k32.f16.e5m2.e5m2", MMA_F16_4, "m16n8k32.row.col.f16.e5m2.e5m2.f16", 16, 32, F16)       \
    X(12, "mma.m16n8k16.f32.e4m3.e4m3", MMA_FLOAT_2, "m16n8k16.row.col.f32.e4m3.e4m3.f32", 16, 16, F32)     \
    X(13, "mma.m16n8k32.s32.s8.s8", MMA_F32_4, "m16n8k32.row.col.s32.s8.s8.s32", 16, 32, S32)               \
    X(14, "mma.m16n8k32.s32.s8.s8.satfinite", MMA_F32_4, "m16n8k32.row.col.satfinite.s32.s8.s8.s32", 16, 32, S32)

#define GROUP_INSTRUCTIONS(X)                                                              \
    X(32, "wgmma.m64n8k16.f32.f16.f16", WGMMA_F32, "m64n8k16.f32.f16.f16", ", 0", F32)      \
    X(33, "wgmma.m64n8k16.f32.bf16.bf16", WGMMA_F32, "m64n8k16.f32.bf16.bf16", ", 0", F32)  \
    X(34, "wgmma.m64n8k16.f16.f16.f16", WGMMA_F16, "m64n8k16.f16.f16.f16", ", 0", F16)      \
    X(35, "wgmma.m64n8k8.f32.tf32.tf32", WGMMA_F32, "m64n8k8.f32.tf32.tf32", "", F32)       \
    X(36, "wgmma.m64n8k32.f32.e4m3.e4m3", WGMMA_F32, "m64n8k32.f32.e4m3.e4m3", "", F32)     \
    X(37, "wgmma.m64n8k32.f32.e5m2.e5m2", WGMMA_F32, "m64n8k32.f32.e5m2.e5m2", "", F32)     \
    X(38, "wgmma.m64n8k32.f32.e4m3.e5m2", WGMMA_F32, "m64n8k32.f32.e4m3.e5m2", "", F32)     \
    X(39, "wgmma.m64n8k32.f16.e4m3.e4m3", WGMMA_F16, "m64n8k32.f16.e4m3.e4m3", "", F16)     \
    X(40, "wgmma.m64n8k32.f16.e5m2.e5m2", WGMMA_F16, "m64n8k32.f16.e5m2.e5m2", "", F16)

#define DEFINE(ID, NAME, FORM, PTX, M, ROW, SUM) FORM(ID, PTX)
#define DEFINE_GROUP(ID, NAME, FORM, PTX, TAIL, SUM) FORM(ID, PTX, TAIL)
INSTRUCTIONS(DEFINE)
GROUP_INSTRUCTIONS(DEFINE_GROUP)

// One block a tile: a warp, or the four warps of a group.
template <int KIND, int M, int ROW, int SUM>
__global__ void tiles(const uint8_t *in, uint8_t *out) {
    constexpr int C = SUM == F16 ? 2 : 4;
    constexpr int WORDS = ROW / 16;
    constexpr bool GROUP = M == 64;
    const uint8_t *a = in + (size_t)blockIdx.x * (M * ROW + 8 * ROW + M * 8 * C);
    const uint8_t *b = a + M * ROW, *c = b + 8 * ROW;
    uint8_t *d = out + (size_t)blockIdx.x * (M * 8 * C);
    const int lane = threadIdx.x % 32, g = lane / 4, t = lane % 4, first = threadIdx.x / 32 * 16;
    // Two core matrices of 8 columns x 16 bytes, one after the other along K.
    __shared__ __align__(128) uint8_t columns[256];
    uint64_t desc = 0;
    if (GROUP) {
        for (int i = threadIdx.x; i < 256; i += blockDim.x)
            columns[i] = b[(i % 128) / 16 * ROW + i / 128 * 16 + i % 16];
        asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
        __syncthreads();
        uint64_t address = (uint64_t)__cvta_generic_to_shared(columns);
        desc = ((address & 0x3ffff) >> 4) | (uint64_t)(128 >> 4) << 16 | (uint64_t)(128 >> 4) << 32;
    }
    uint32_t x[4] = {}, y[2] = {}, z[4] = {};
    for (int i = 0; i < 2 * WORDS; i++)
        memcpy(&x[i], a + (first + g + 8 * (i & 1)) * ROW + 4 * t + 16 * (i >> 1), 4);
    for (int i = 0; i < WORDS; i++) memcpy(&y[i], b + g * ROW + 4 * t + 16 * i, 4);
    for (int i = 0; i < 2; i++) memcpy(&z[i * C / 2], c + ((first + g + 8 * i) * 8 + 2 * t) * C, 2 * C);
    multiply<KIND>(z, x, y, desc);
    for (int i = 0; i < 2; i++) memcpy(d + ((first + g + 8 * i) * 8 + 2 * t) * C, &z[i * C / 2], 2 * C);
}

struct Instruction {
    const char *name;
    Shape shape;
    void (*run)(const uint8_t *, uint8_t *, int);
};

template <int KIND, int M, int ROW, int SUM>
void run(const uint8_t *in, uint8_t *out, int count) {
    tiles<KIND, M, ROW, SUM><<<count, M * 2>>>(in, out);
    CHECK(cudaGetLastError());
}

#define LIST(ID, NAME, FORM, PTX, M, ROW, SUM) {NAME, {M, ROW, SUM == F16 ? 2 : 4}, run<ID, M, ROW, SUM>},
#define LIST_GROUP(ID, NAME, FORM, PTX, TAIL, SUM) {NAME, {64, 32, SUM == F16 ? 2 : 4}, run<ID, 64, 32, SUM>},
static const Instruction instructions[] = {INSTRUCTIONS(LIST) GROUP_INSTRUCTIONS(LIST_GROUP)};

int main(int argc, char **argv) {
    if (argc != 3) {
        fprintf(stderr, "usage: matrix_units IN OUT\n");
        return 2;
    }
    FILE *in = fopen(argv[1], "rb"), *out = fopen(argv[2], "wb");
    if (!in || !out) {
        perror("matrix_units");
        return 1;
    }
    char name[64];
    int count;
    while (fscanf(in, "%63s %d", name, &count) == 2) {
        if (fgetc(in) != '\n') return 1;
        const Instruction *found = nullptr;
        for (const Instruction &i : instructions)
            if (!strcmp(i.name, name)) found = &i;
        if (!found) {
            fprintf(stderr, "no instruction %s\n", name);
            return 1;
        }
        Shape s = found->shape;
        size_t given = (size_t)count * (s.m * s.row + 8 * s.row + s.m * 8 * s.c), got = (size_t)count * s.m * 8 * s.c;
        std::vector<uint8_t> host(given), result(got);
        if (fread(host.data(), 1, given, in) != given) {
            fprintf(stderr, "%s: too short\n", name);
            return 1;
        }
        uint8_t *x, *y;
        CHECK(cudaMalloc(&x, given));
        CHECK(cudaMalloc(&y, got));
        CHECK(cudaMemcpy(x, host.data(), given, cudaMemcpyHostToDevice));
        CHECK(cudaMemset(y, 0x5a, got));
        found->run(x, y, count);
        CHECK(cudaDeviceSynchronize());
        CHECK(cudaMemcpy(result.data(), y, got, cudaMemcpyDeviceToHost));
        CHECK(cudaFree(x));
        CHECK(cudaFree(y));
        if (fwrite(result.data(), 1, got, out) != got) return 1;
        printf("%s: %d tiles\n", name, count);
    }
    return fclose(out) != 0;
}
