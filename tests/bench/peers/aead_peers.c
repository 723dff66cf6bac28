/* aead_peers.c - nanoseconds per message of the ciphers of others, libcrypto and libsodium, when the machine has them:
 * lines of name, bytes, ns. Built against nothing, so that no development packages are needed, and run by
 * ../bench_aead_peers.py, which puts them beside ours. */
#include <dlfcn.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#define GET_TAG 0x10	/* EVP_CTRL_AEAD_GET_TAG */

static struct {
	void *(*ctx_new)(void);
	const void *(*cipher)(void);
	int (*init)(void *, const void *, void *, const unsigned char *, const unsigned char *);
	int (*update)(void *, unsigned char *, int *, const unsigned char *, int);
	int (*final)(void *, unsigned char *, int *);
	int (*ctrl)(void *, int, int, void *);
	void *ctx;
} evp;

static int (*sodium_init)(void);
static int (*sodium_encrypt)(unsigned char *, unsigned long long *, const unsigned char *, unsigned long long,
			     const unsigned char *, unsigned long long, const unsigned char *, const unsigned char *,
			     const unsigned char *);

static uint8_t room[1536] __attribute__((aligned(64)));
static uint8_t key[32] = { 1, 2, 3 };

static double now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (double)ts.tv_sec * 1e9 + (double)ts.tv_nsec;
}

static void with_evp(uint8_t nonce[12], int n)
{
	int len;

	evp.init(evp.ctx, NULL, NULL, NULL, nonce);
	evp.update(evp.ctx, room, &len, room, n);
	evp.final(evp.ctx, room + n, &len);
	evp.ctrl(evp.ctx, GET_TAG, 16, room + n);
}

static void with_sodium(uint8_t nonce[12], int n)
{
	sodium_encrypt(room, NULL, room, (unsigned long long)n, NULL, 0, NULL, nonce, key);
}

static void measure(const char *name, void (*seal)(uint8_t *, int))
{
	static const int sizes[] = { 64, 512, 1424 };

	for (int s = 0; s < 3; s++) {
		uint64_t rounds = 300000 / ((uint64_t)sizes[s] + 200), counter = 0;
		double best = 1e18;

		for (int run = 0; run < 150; run++) {
			double t = now_ns();

			for (uint64_t r = 0; r < rounds; r++) {
				uint8_t nonce[12] = { 0 };

				counter++;
				memcpy(nonce + 4, &counter, 8);
				seal(nonce, sizes[s]);
			}
			t = (now_ns() - t) / (double)rounds;
			best = t < best ? t : best;
		}
		printf("%s %d %.1f\n", name, sizes[s], best);
	}
}

static void *find(void *lib, const char *name)
{
	return lib ? dlsym(lib, name) : NULL;
}

int main(void)
{
	void *crypto = dlopen("libcrypto.so.3", RTLD_NOW), *sodium = dlopen("libsodium.so.23", RTLD_NOW);

	*(void **)&evp.ctx_new = find(crypto, "EVP_CIPHER_CTX_new");
	*(void **)&evp.cipher = find(crypto, "EVP_chacha20_poly1305");
	*(void **)&evp.init = find(crypto, "EVP_EncryptInit_ex");
	*(void **)&evp.update = find(crypto, "EVP_EncryptUpdate");
	*(void **)&evp.final = find(crypto, "EVP_EncryptFinal_ex");
	*(void **)&evp.ctrl = find(crypto, "EVP_CIPHER_CTX_ctrl");
	*(void **)&sodium_init = find(sodium, "sodium_init");
	*(void **)&sodium_encrypt = find(sodium, "crypto_aead_chacha20poly1305_ietf_encrypt");
	if (evp.ctx_new && evp.cipher && evp.init && evp.update && evp.final && evp.ctrl) {
		uint8_t nonce[12] = { 0 };

		evp.ctx = evp.ctx_new();
		if (evp.init(evp.ctx, evp.cipher(), NULL, key, nonce) == 1)
			measure("openssl", with_evp);
	}
	if (sodium_init && sodium_encrypt && sodium_init() >= 0)
		measure("libsodium", with_sodium);
	return 0;
}
