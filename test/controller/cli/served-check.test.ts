// Where the controller posts an inference that a device says it takes by HTTP, and where it does not.
import { describe, expect, it } from 'vitest';
import { inferUrl } from '../../../controller/cli/served-check.ts';

describe('the address at which a device says that it serves', () => {
  it('is asked where it is one of this machine', () => {
    for (const url of ['http://127.0.0.1:40123', 'http://localhost:8080', 'http://[::1]:8080']) {
      expect(inferUrl(url)?.href).toBe(`${url}/infer`);
    }
  });

  it('is not asked elsewhere, by another protocol, or where it only looks like this machine', () => {
    const others = ['http://192.168.0.1:80', 'http://169.254.169.254/latest', 'https://127.0.0.1:1', 'file:///etc/passwd', 'http://127.0.0.1.example.org', 'http://localhost@example.org', 'http://0.0.0.0:1', 'nonsense', '']; // prettier-ignore
    expect(others.map(inferUrl)).toEqual(others.map(() => null));
  });
});
