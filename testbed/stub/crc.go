package main

import (
	"crypto/md5"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"hash/crc32"
)

const blockSize = 128 << 20

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func written(crc uint32) string {
	return base64.StdEncoding.EncodeToString(binary.BigEndian.AppendUint32(nil, crc))
}

// joined is the CRC of two strings in a row, from that of each and the second's length: zlib's crc32_combine.
func joined(first, second uint32, length int64) uint32 {
	shift, power := uint32(1)<<31, uint32(1)<<23
	for ; length > 0; length >>= 1 {
		if length&1 == 1 {
			shift = times(shift, power)
		}
		power = times(power, power)
	}
	return times(shift, first) ^ second
}

// times multiplies modulo the polynomial; reflected, so the top bit is the coefficient of x**0.
func times(a, b uint32) uint32 {
	product := uint32(0)
	for bit := 31; bit >= 0; bit-- {
		if a>>bit&1 == 1 {
			product ^= b
		}
		b = b>>1 ^ crc32.Castagnoli*(b&1)
	}
	return product
}

// fileChecksum is what GETFILECHECKSUM answers for a file of so many bytes of the pattern: its algorithm and its hex text.
//
// Block MD5s are zero-padded to the smallest 32 * 2**k that holds them, and the hex has 64 digits though 28 bytes count.
func fileChecksum(size int64) (string, string) {
	var digests []byte
	for at := int64(0); at < size; at += blockSize {
		digest := md5.New()
		end := min(at+blockSize, size)
		for chunk := at; chunk < end; chunk += 512 {
			crc := crc32.Checksum(pattern(chunk, min(512, end-chunk)), castagnoli)
			digest.Write(binary.BigEndian.AppendUint32(nil, crc))
		}
		digests = digest.Sum(digests)
	}
	bytesPerCRC, crcPerBlock, kind := 512, int64(0), "CRC32C"
	if size == 0 {
		bytesPerCRC, kind = 0, "CRC32"
	}
	if size > blockSize {
		crcPerBlock = blockSize / 512
	}
	room := 32
	for room < len(digests) {
		room *= 2
	}
	whole := md5.Sum(append(digests, make([]byte, room-len(digests))...))
	value := binary.BigEndian.AppendUint32(nil, uint32(bytesPerCRC))
	value = binary.BigEndian.AppendUint64(value, uint64(crcPerBlock))
	value = append(append(value, whole[:]...), make([]byte, 4)...)
	return fmt.Sprintf("MD5-of-%dMD5-of-%d%s", crcPerBlock, bytesPerCRC, kind), hex.EncodeToString(value)
}
