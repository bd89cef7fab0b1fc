// A stand-in for Schibsted account's JS SDK v1 (1.7.11), which can be had no more: what a page, its visitors and
// our script see of it, written anew from what schibsted/sdk-js is known to do:
//
// - one global, VGS; `vgsAsyncInit` is called once the script has run
// - the session comes as a script from another host; VGS looks every 300 ms whether it has come
// - `auth.visitor` is fired with {uid, user_id} for answers from the network only, never for a session from the
//   cookie; and before the session is kept, so that its subscribers still see the old `getSession()`
// - a session is kept in the cookie `vgs_js_<client>` (`vgs_js_test_<client>` with `prod: false`) as
//   escape(JSON), unless `cookie: false`; that of somebody who is not logged in only with `cache_notloggedin`
// - of several cookies of the name the last one counts
(function () {
  var options = {};
  var session = null;
  var status = 'unknown';
  var loadState = null;
  var initiated = false;
  var queue = [];
  var polling = null;
  var script = null;
  var refresh = null;
  var domain = '';
  var subscribers = {};
  var cookieName = '';

  function now() { return new Date().getTime(); }

  function fire(name, value) {
    (subscribers[name] || []).forEach(function (subscriber) { if (subscriber) { subscriber(value); } });
  }

  // --- requests ------------------------------------------------------------------------------

  function url(host, path) { return (options.https ? 'https' : 'http') + '://' + host + options.server + path; }

  function request(address, callback) {
    var id = 'f' + Math.random().toString(16).slice(2);
    VGS.callbacks[id] = callback;
    queue.push(address + (address.indexOf('?') < 0 ? '?' : '&') + 'callback=' + id + '&client_id=' +
      options.client_id + '&redirect_uri=' + encodeURIComponent(location.href));
    if (polling === null) {
      poll();
      polling = setInterval(poll, 300);
    }
  }

  function poll() {
    if (script) {
      if (window.triggerResponse) { window.triggerResponse(); }
    } else if (queue.length) {
      window.triggerResponse = null;
      script = document.createElement('script');
      script.src = queue[0];
      script.onerror = function () {
        received();
        fire('VGS.error', {type: 'communication', code: 503, description: 'Server Timed Out'});
      };
      document.head.appendChild(script);
    } else {
      clearInterval(polling);
      polling = null;
    }
  }

  function received() {
    queue.shift();
    script.parentNode.removeChild(script);
    script = null;
  }

  // --- the cookie ----------------------------------------------------------------------------

  function setCookie(name, value, seconds) {
    document.cookie = name + '=' + value + '; expires=' + new Date(now() + seconds * 1000).toGMTString() +
      '; path=/' + (domain ? '; domain=.' + domain : '');
  }

  function readCookie() {
    var found = null;
    document.cookie.split(/; */).forEach(function (pair) {
      if (pair.indexOf(cookieName + '=') === 0) { found = pair.slice(cookieName.length + 1); }
    });
    if (!found) { return null; }
    found = JSON.parse(unescape(found));
    found.expiresIn = parseInt(found.expiresIn, 10);
    domain = found.baseDomain;
    return found;
  }

  function keep(kept) {
    if (kept) {
      domain = kept.baseDomain;
      setCookie(cookieName, escape(JSON.stringify(kept)), kept.expiresIn);
      if (kept.sp_id) { setCookie('SP_ID', kept.sp_id, kept.expiresIn); }
    } else {
      setCookie(cookieName, '', 0);
      setCookie('SP_ID', '', 0);
    }
  }

  // --- the session ---------------------------------------------------------------------------

  function setSession(next, nextStatus) {
    var had = !!session && 'userId' in session;
    var has = !!next && 'userId' in next;
    var login = !had && has;
    var logout = had && !has;
    var neither = !had && !has;
    var both = had && has && session.id !== next.id;
    var changed = login || logout || neither || session.sig !== next.sig;
    var statusChanged = status !== nextStatus;
    var told = {session: next, status: nextStatus};
    if (next) { next.clientTime = now(); }
    session = next;
    status = nextStatus;
    if (changed && options.cookie) { keep(next); }
    if (neither) { fire('auth.notLoggedin', told); }
    if (statusChanged) { fire('auth.statusChange', told); }
    if (logout || both) { fire('auth.logout', told); }
    if (login || both) { fire('auth.login', told); }
    if (changed) { fire('auth.sessionChange', told); }
    if (both) { fire('auth.userChange', told); }
    if (has && !initiated) {
      initiated = true;
      fire('auth.sessionInit', told);
    }
    clearTimeout(refresh);
    if (loadState && next && next.expiresIn) {
      refresh = setTimeout(function () { VGS.getLoginStatus(null, true); }, options.refresh_timeout);
    }
  }

  function take(answer) {
    var inner = answer.response || answer;
    if (inner.visitor) { fire('auth.visitor', inner.visitor); }
    if (answer.result && 'userId' in answer) {
      setSession(answer, answer.userStatus || 'unknown');
    } else if (answer.error && answer.error.type === 'LoginException') {
      fire('VGS.loginException', answer);
    } else if (answer.error && options.cache_notloggedin) {
      inner.expiresIn = options.refresh_timeout / 1000;
      setSession(inner, 'unknown');
    } else {
      setSession(null, 'unknown');
    }
  }

  function loaded(answer) {
    loadState = 'loaded';
    take(answer);
    fire('VGS.loginStatus', answer);
    delete subscribers['VGS.loginStatus'];
  }

  window.VGS = window.VGS || {
    callbacks: {},
    Ajax: {responseReceived: received},
    Auth: {
      logout: function (callback) {
        setSession(null, 'unknown');
        request(url('', '/ajax/logout.js'), callback || function () {});
      }
    },
    Event: {
      subscribe: function (name, callback) { (subscribers[name] = subscribers[name] || []).push(callback); },
      unsubscribe: function (name, callback) {
        subscribers[name] = (subscribers[name] || []).map(function (each) {
          return each === callback ? null : each;
        });
      },
      fire: fire
    },
    getSession: function () { return session; },
    getLoginStatus: function (callback, force) {
      if (callback) {
        if (!force && loadState === 'loaded') {
          callback({status: status, session: session});
          return;
        }
        VGS.Event.subscribe('VGS.loginStatus', callback);
      }
      if (!force && loadState === 'loading') { return; }
      loadState = 'loading';
      VGS.Event.subscribe('VGS.loginException', function () {
        delete subscribers['VGS.loginException'];
        request(url('', '/ajax/hasSession.js?autologin=1'), loaded);
      });
      request(options.prod ? url('session.', '/rpc/hasSession.js') : url('', '/ajax/hasSession.js'), loaded);
    },
    init: function (given) {
      var defaults = {
        cookie: true, cache_notloggedin: false, prod: true, https: true, status: false, refresh_timeout: 900000
      };
      options = Object.assign(defaults, given);
      cookieName = (options.prod ? 'vgs_js_' : 'vgs_js_test_') + options.client_id;
      var known = options.session || (options.cookie ? readCookie() : null);
      if (known) {
        if (!options.session) { loadState = 'loaded'; }
        setSession(known, known.userStatus || 'unknown');
      }
      if (!known || options.status) { VGS.getLoginStatus(); }
    }
  };

  setTimeout(function () {
    if (typeof window.vgsAsyncInit === 'function' && !window.vgsAsyncInit.hasRun) {
      window.vgsAsyncInit.hasRun = true;
      window.vgsAsyncInit();
    }
  }, 0);
})();
