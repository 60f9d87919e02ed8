/* CRC-32C of each chunk of a buffer and of the whole buffer, in one pass over the bytes.
 *
 * crc.py says what the function gives and holds the same in Python; the tests compare the two. Three ways to go over the
 * bytes, chosen when the module is imported: the crc32 instructions of x86-64 (SSE4.2) and of aarch64, and tables
 * (slicing by 8) for every other machine. An instruction takes three cycles but a new one may begin in every cycle, so
 * four chunks are computed side by side.
 *
 * The interpreter's lock is kept. A buffer of 256 KiB takes 12 microseconds, less than another thread needs to wake up;
 * and if one did, it might keep the lock for the switch interval, 5 milliseconds, while the event loop waits. (Beside a
 * busy thread a call took 12 us with the lock kept and 13 given up; zlib.crc32, which gives it up, went from 72 to 207.)
 * The lock also guards the one table below.
 */
#define Py_LIMITED_API 0x030B0000 /* one file for every CPython from 3.11 on */
#include <Python.h>
#include <stdint.h>
#include <string.h>

#define POLYNOMIAL 0x82F63B78u /* Castagnoli, reflected: the top bit is the coefficient of x^0 */
#define LANES 4

typedef struct {
    const char *name;
    uint32_t (*one)(uint32_t before, const uint8_t *data, size_t length);
    void (*lanes)(uint32_t crcs[LANES], const uint8_t *data, size_t size); /* of LANES chunks in a row */
} Machine;

/* --- any machine -------------------------------------------------------------------------------------------------- */

static uint32_t slices[8][256]; /* slices[k][b]: what byte b does k bytes later */

static void make_slices(void)
{
    for (uint32_t byte = 0; byte < 256; byte++) {
        uint32_t crc = byte;
        for (int bit = 0; bit < 8; bit++)
            crc = crc >> 1 ^ (crc & 1 ? POLYNOMIAL : 0);
        slices[0][byte] = crc;
    }
    for (int k = 1; k < 8; k++)
        for (int byte = 0; byte < 256; byte++)
            slices[k][byte] = slices[k - 1][byte] >> 8 ^ slices[0][slices[k - 1][byte] & 255];
}

static uint32_t portable_one(uint32_t before, const uint8_t *p, size_t length)
{
    uint32_t crc = ~before;
    for (; length >= 8; length -= 8, p += 8)
        crc = slices[7][p[0] ^ (crc & 255)] ^ slices[6][p[1] ^ (crc >> 8 & 255)] ^ slices[5][p[2] ^ (crc >> 16 & 255)]
              ^ slices[4][p[3] ^ crc >> 24] ^ slices[3][p[4]] ^ slices[2][p[5]] ^ slices[1][p[6]] ^ slices[0][p[7]];
    while (length--)
        crc = crc >> 8 ^ slices[0][(crc ^ *p++) & 255];
    return ~crc;
}

static void portable_lanes(uint32_t crcs[LANES], const uint8_t *data, size_t size)
{
    for (int lane = 0; lane < LANES; lane++)
        crcs[lane] = portable_one(0, data + (size_t)lane * size, size);
}

static const Machine portable = {"tables", portable_one, portable_lanes};

/* --- machines with an instruction for it -------------------------------------------------------------------------- */

#if defined(__x86_64__) && defined(__GNUC__)

#include <nmmintrin.h>
#define INSTRUCTION "SSE4.2"
#define TARGET __attribute__((target("sse4.2")))
#define BYTE(crc, value) _mm_crc32_u8((uint32_t)(crc), value)
#define WORD(crc, value) _mm_crc32_u64(crc, value)

static int has_instruction(void)
{
    return __builtin_cpu_supports("sse4.2");
}

#elif defined(__aarch64__) && defined(__GNUC__) && !defined(__AARCH64EB__) && (defined(__linux__) || defined(__APPLE__))

#ifdef __linux__
#include <sys/auxv.h>
#endif
#define INSTRUCTION "ARMv8 CRC"
#define TARGET /* the assembler is told below: compilers name the extension differently */
#define BYTE(crc, value) arm_byte(crc, value)
#define WORD(crc, value) arm_word(crc, value)

static inline uint64_t arm_byte(uint64_t crc, uint8_t value)
{
    __asm__(".arch_extension crc\n\tcrc32cb %w0, %w0, %w1" : "+r"(crc) : "r"(value));
    return crc;
}

static inline uint64_t arm_word(uint64_t crc, uint64_t value)
{
    __asm__(".arch_extension crc\n\tcrc32cx %w0, %w0, %x1" : "+r"(crc) : "r"(value));
    return crc;
}

static int has_instruction(void)
{
#ifdef __linux__
    return (getauxval(AT_HWCAP) & 1 << 7) != 0; /* HWCAP_CRC32 */
#else
    return 1; /* every Mac with an ARM processor */
#endif
}

#endif

#ifdef INSTRUCTION

static inline uint64_t word_at(const uint8_t *p)
{
    uint64_t value;
    memcpy(&value, p, sizeof value); /* compiles to one load; p may be unaligned */
    return value;
}

TARGET static uint32_t instruction_one(uint32_t before, const uint8_t *p, size_t length)
{
    uint64_t crc = (uint32_t)~before;
    for (; length >= 8; length -= 8, p += 8)
        crc = WORD(crc, word_at(p));
    while (length--)
        crc = BYTE(crc, *p++);
    return ~(uint32_t)crc;
}

TARGET static void instruction_lanes(uint32_t crcs[LANES], const uint8_t *data, size_t size)
{
    const uint8_t *p = data, *q = p + size, *r = q + size, *s = r + size;
    uint64_t a = 0xFFFFFFFF, b = a, c = a, d = a;
    size_t at = 0;
    for (; at + 8 <= size; at += 8) {
        a = WORD(a, word_at(p + at));
        b = WORD(b, word_at(q + at));
        c = WORD(c, word_at(r + at));
        d = WORD(d, word_at(s + at));
    }
    for (; at < size; at++) {
        a = BYTE(a, p[at]);
        b = BYTE(b, q[at]);
        c = BYTE(c, r[at]);
        d = BYTE(d, s[at]);
    }
    crcs[0] = ~(uint32_t)a;
    crcs[1] = ~(uint32_t)b;
    crcs[2] = ~(uint32_t)c;
    crcs[3] = ~(uint32_t)d;
}

static const Machine instruction = {INSTRUCTION, instruction_one, instruction_lanes};

#endif

/* --- the whole out of the chunks ---------------------------------------------------------------------------------- */

/* CRC(A + B) = CRC(A) advanced over len(B) zero bytes, xor CRC(B). Advancing is a product modulo the polynomial, with
 * x^(8 len(B)); for one size it is four look-ups. The size hardly ever changes, so the last one's table is kept. */
static uint32_t advance[4][256];
static size_t advance_size; /* 0: none yet */

static uint32_t product(uint32_t a, uint32_t b)
{
    uint32_t sum = 0;
    for (; a; a <<= 1) {
        if (a >> 31)
            sum ^= b;
        b = b >> 1 ^ (b & 1 ? POLYNOMIAL : 0);
    }
    return sum;
}

static void prepare_advance(size_t size)
{
    if (size == advance_size)
        return;
    uint32_t factor = 1u << 31, power = 1u << 23; /* x^0; x^8 is one byte */
    for (size_t left = size; left; left >>= 1, power = product(power, power))
        if (left & 1)
            factor = product(power, factor);
    for (int k = 0; k < 4; k++)
        for (uint32_t byte = 1; byte < 256; byte++) {
            uint32_t lowest = byte & -byte;
            advance[k][byte] =
                byte == lowest ? product(byte << 8 * k, factor) : advance[k][lowest] ^ advance[k][byte ^ lowest];
        }
    advance_size = size;
}

static inline uint32_t advanced(uint32_t crc)
{
    return advance[0][crc & 255] ^ advance[1][crc >> 8 & 255] ^ advance[2][crc >> 16 & 255] ^ advance[3][crc >> 24];
}

static inline uint8_t *big_endian(uint8_t *out, uint32_t crc)
{
    out[0] = (uint8_t)(crc >> 24);
    out[1] = (uint8_t)(crc >> 16);
    out[2] = (uint8_t)(crc >> 8);
    out[3] = (uint8_t)crc;
    return out + 4;
}

static uint32_t chunks(const Machine *machine, const uint8_t *p, size_t length, size_t size, uint32_t whole, uint8_t *out)
{
    uint32_t crcs[LANES];
    size_t left = length / size, tail = length % size;
    if (left)
        prepare_advance(size);
    for (; left >= LANES; left -= LANES, p += LANES * size) {
        machine->lanes(crcs, p, size);
        for (int lane = 0; lane < LANES; lane++) {
            whole = advanced(whole) ^ crcs[lane];
            out = big_endian(out, crcs[lane]);
        }
    }
    for (; left; left--, p += size) {
        crcs[0] = machine->one(0, p, size);
        whole = advanced(whole) ^ crcs[0];
        out = big_endian(out, crcs[0]);
    }
    if (tail) { /* gone over twice: a table for its size would cost more */
        crcs[0] = machine->one(0, p, tail);
        whole = whole ? machine->one(whole, p, tail) : crcs[0];
        big_endian(out, crcs[0]);
    }
    return whole;
}

/* --- Python ------------------------------------------------------------------------------------------------------- */

static const Machine *fastest = &portable;

static PyObject *answer(const Machine *machine, PyObject *args)
{
    Py_buffer data;
    Py_ssize_t size;
    long long before = 0;
    PyObject *crcs = NULL;
    if (!PyArg_ParseTuple(args, "y*n|L:crc32c_chunks", &data, &size, &before))
        return NULL;
    if (size < 1)
        PyErr_SetString(PyExc_ValueError, "a chunk has at least one byte");
    else if (before < 0 || before > 0xFFFFFFFF)
        PyErr_SetString(PyExc_OverflowError, "a CRC has 32 bits");
    else {
        Py_ssize_t count = data.len / size + (data.len % size != 0);
        crcs = count > PY_SSIZE_T_MAX / 4 ? PyErr_NoMemory() : PyBytes_FromStringAndSize(NULL, 4 * count);
    }
    uint32_t whole = (uint32_t)before;
    if (crcs != NULL)
        whole = chunks(machine, data.buf, (size_t)data.len, (size_t)size, whole, (uint8_t *)PyBytes_AsString(crcs));
    PyBuffer_Release(&data);
    return crcs == NULL ? NULL : Py_BuildValue("(NI)", crcs, (unsigned int)whole);
}

static PyObject *crc32c_chunks(PyObject *Py_UNUSED(module), PyObject *args)
{
    return answer(fastest, args);
}

static PyObject *portable_chunks(PyObject *Py_UNUSED(module), PyObject *args)
{
    return answer(&portable, args);
}

static PyMethodDef methods[] = {
    {"crc32c_chunks", crc32c_chunks, METH_VARARGS, "crc32c_chunks(data, size, before=0, /) -> (crcs, whole)"},
    {"_portable", portable_chunks, METH_VARARGS, "crc32c_chunks without the instruction, for the tests."},
    {NULL, NULL, 0, NULL},
};

static int execute(PyObject *module)
{
    make_slices();
#ifdef INSTRUCTION
    if (has_instruction())
        fastest = &instruction;
#endif
    return PyModule_AddStringConstant(module, "MACHINE", fastest->name);
}

static PyModuleDef_Slot slots[] = {{Py_mod_exec, (void *)execute}, {0, NULL}};

static struct PyModuleDef definition = {
    .m_base = PyModuleDef_HEAD_INIT, .m_name = "_crc", .m_methods = methods, .m_slots = slots};

PyMODINIT_FUNC PyInit__crc(void)
{
    return PyModuleDef_Init(&definition);
}
